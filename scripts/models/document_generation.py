"""Document-generation items: kind of document, ISO date, JSON records, a Markdown heading block."""

import json
import random
from typing import Any, Final

from scripts.models import words
from scripts.models.customer_service import join_labels, slots
from scripts.models.document_texts import DOCUMENTS
from scripts.models.item import Item
from scripts.models.wording import Language, Split, Wordings, expand

PROFILE: Final = "document-generation"

ASK_KIND = {
    "en": Wordings(
        "What kind of document is this: {labels}? Answer with one word.\n{text}",
        "Document: {text}\nKind ({labels}):",
        "Label the document. Labels: {labels}.\nDocument: {text}\nOne word only.",
        "Document: {text}\nWhat kind is it: {labels}? Answer with one word.",
        "Label the kind of this document: {labels}. One word only.\n{text}",
    ),
    "zh": Wordings(
        "这是什么文档：{labels}？只回答一个词。\n{text}",
        "文档：{text}\n类型（{labels}）：",
        "标注文档类型。标签：{labels}。\n文档：{text}\n只回答标签。",
        "文档：{text}\n类型是{labels}？只回答一个词。",
        "标注这份文档的类型：{labels}。只回答标签。\n{text}",
    ),
}
ASK_DATE = {
    "en": Wordings(
        "Write this date as YYYY-MM-DD: {date}",
        "Date: {date}\nISO date (YYYY-MM-DD):",
        "Convert {date} to the form YYYY-MM-DD. Answer with the date only.",
        "Convert this date to YYYY-MM-DD: {date}. Answer with the date only.",
        "Write {date} in the form YYYY-MM-DD.",
    ),
    "zh": Wordings(
        "把日期写成YYYY-MM-DD：{date}",
        "日期：{date}\nISO日期（YYYY-MM-DD）：",
        "把{date}转换成YYYY-MM-DD，只回答日期。",
        "把这个日期转换成YYYY-MM-DD：{date}。只回答日期。",
        "把{date}写成YYYY-MM-DD的形式。",
    ),
}


def document_kind(split: Split, language: Language, rng: random.Random) -> Item:
    right = rng.choice(list(DOCUMENTS[language]))
    text = expand(DOCUMENTS[language][right].pick(split, rng), rng, slots(language, rng))
    labels = rng.sample(list(DOCUMENTS[language]), k=len(DOCUMENTS[language]))
    filled = {"labels": join_labels(labels, language), "text": text}
    prompt = expand(ASK_KIND[language].pick(split, rng), rng, filled)
    return Item(f"document_kind_{language}", PROFILE, prompt, right, "label", 12, right, tuple(labels))


def iso_date(split: Split, language: Language, rng: random.Random) -> Item:
    date = words.calendar_date(rng)
    spoken = words.spoken_date(date, language, rng)
    prompt = expand(ASK_DATE[language].pick(split, rng), rng, {"date": spoken})
    return Item(
        f"iso_date_{language}", PROFILE, prompt, words.iso_date(date), "exact", 16, words.iso_date(date)
    )


CONTACTS = {
    "en": Wordings(
        "{name} lives in {city} and is {age} years old.",
        "Our new colleague is {name}, aged {age}, from {city}.",
        "From {city}: {name}, {age} years old.",
        "{name} is {age} years old and comes from {city}.",
        "Our colleague {name} lives in {city}, aged {age}.",
    ),
    "zh": Wordings(
        "{name}住在{city}，今年{age}岁。",
        "新同事{name}，{age}岁，来自{city}。",
        "来自{city}的{name}今年{age}岁。",
        "{name}今年{age}岁，来自{city}。",
        "同事{name}住在{city}，{age}岁。",
    ),
}
ASK_JSON = {
    "en": Wordings(
        "{text}\nReturn JSON with the keys {keys}.",
        "Write the text as JSON with {keys}.\n{text}",
        "Text: {text}\nJSON only, keys {keys}:",
        "Text: {text}\nReturn only JSON with the keys {keys}.",
        "Write as JSON with the keys {keys}.\n{text}",
    ),
    "zh": Wordings(
        "{text}\n返回JSON，键为{keys}。",
        "把文字写成JSON，键为{keys}。\n{text}",
        "文字：{text}\n只写JSON，键{keys}：",
        "文字：{text}\n只返回JSON，键为{keys}。",
        "写成JSON，键为{keys}。\n{text}",
    ),
}


def _json_item(
    task: str, text: str, fields: dict[str, Any], split: Split, language: Language, rng: random.Random
) -> Item:
    """An item whose answer is a JSON object with exactly these fields; `max_tokens` leaves room for it."""
    keys = ", ".join(fields)
    prompt = expand(ASK_JSON[language].pick(split, rng), rng, {"text": text, "keys": keys})
    schema = {
        "type": "object",
        "properties": {key: {"const": value} for key, value in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }
    target = json.dumps(fields, ensure_ascii=False)
    return Item(f"{task}_{language}", PROFILE, prompt, schema, "json_schema", 64, target)


def contact_json(split: Split, language: Language, rng: random.Random) -> Item:
    """Two of name, city and age, as JSON."""
    fields = {
        "name": words.person(language, rng),
        "city": rng.choice(words.CITIES[language]),
        "age": rng.randrange(18, 80),
    }
    text = expand(
        CONTACTS[language].pick(split, rng), rng, {key: str(value) for key, value in fields.items()}
    )
    wanted = rng.sample(list(fields), k=2)
    return _json_item("contact_json", text, {key: fields[key] for key in wanted}, split, language, rng)


CONTRACTS = {
    "en": Wordings(
        "{seller} sells a {product} to {buyer} for {amount} euros.",
        "{buyer} buys a {product} from {seller}. The price is {amount} euros.",
        "Sale of a {product}: seller {seller}, buyer {buyer}, price {amount} euros.",
        "{seller} sells {buyer} a {product}. The price is {amount} euros.",
        "{buyer} buys a {product} for {amount} euros from {seller}.",
    ),
    "zh": Wordings(
        "{seller}以{amount}元把{product}卖给{buyer}。",
        "{buyer}向{seller}购买{product}，价格{amount}元。",
        "买卖{product}：卖方{seller}，买方{buyer}，价格{amount}元。",
        "{seller}把{product}卖给{buyer}，价格{amount}元。",
        "{buyer}以{amount}元向{seller}购买{product}。",
    ),
}


def contract_json(split: Split, language: Language, rng: random.Random) -> Item:
    """Seller, buyer and amount of a sale, as JSON."""
    fields = {
        "seller": words.company(language, rng),
        "buyer": words.person(language, rng),
        "amount": rng.randrange(20, 990),
    }
    filled = {key: str(value) for key, value in fields.items()} | {
        "product": rng.choice(words.PRODUCTS[language])
    }
    text = expand(CONTRACTS[language].pick(split, rng), rng, filled)
    return _json_item("contract_json", text, fields, split, language, rng)


ASK_MARKDOWN = {
    "en": Wordings(
        "Write a Markdown note: the heading '# {title}', then '- Owner: {name}' and '- Due: {day}'.",
        "Markdown: heading {title}, then a list with Owner {name} and Due {day}.",
        "Title {title}, Owner {name}, Due {day}. Write it as a Markdown heading and a list.",
        "Write a Markdown heading {title} and a list with Owner {name} and Due {day}.",
        "Title {title}. Write it as a Markdown heading, then a list: Owner {name}, Due {day}.",
    ),
    "zh": Wordings(
        "写Markdown：标题“# {title}”，然后“- 负责人: {name}”和“- 截止: {day}”。",
        "Markdown：标题{title}，列表包含负责人{name}和截止{day}。",
        "标题{title}，负责人{name}，截止{day}。写成Markdown标题和列表。",
        "写Markdown标题{title}，列表包含负责人{name}和截止{day}。",
        "标题{title}。写成Markdown标题，然后列表：负责人{name}，截止{day}。",
    ),
}
MARKDOWN = {"en": ("Owner", "Due"), "zh": ("负责人", "截止")}
TITLES = {
    "en": [
        "Budget Plan",
        "Sales Review",
        "Team Meeting",
        "Office Move",
        "Product Launch",
        "Staff Training",
        "Website Update",
        "Stock Check",
    ],
    "zh": ["预算计划", "销售总结", "团队会议", "办公室搬迁", "产品发布", "员工培训", "网站更新", "库存盘点"],
}


def markdown_note(split: Split, language: Language, rng: random.Random) -> Item:
    filled = {
        "title": rng.choice(TITLES[language]),
        "name": words.person(language, rng),
        "day": rng.choice(words.WEEKDAYS[language]),
    }
    prompt = expand(ASK_MARKDOWN[language].pick(split, rng), rng, filled)
    owner, due = MARKDOWN[language]
    target = f"# {filled['title']}\n- {owner}: {filled['name']}\n- {due}: {filled['day']}"
    lines = (
        f"#+ {filled['title']}",
        f"[-*] {owner}[:：] *{filled['name']}",
        f"[-*] {due}[:：] *{filled['day']}",
    )
    pattern = r"^\s*" + r"\s*\n+".join(lines) + r"\s*$"
    return Item(f"markdown_note_{language}", PROFILE, prompt, pattern, "regex", 48, target)
