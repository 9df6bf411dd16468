"""Recommendation items: the department for an interest, picks from a catalogue by attribute or budget."""

import random
from typing import Final

from scripts.models import words
from scripts.models.customer_service import join_labels, slots
from scripts.models.interest_texts import INTERESTS
from scripts.models.item import Item
from scripts.models.wording import Language, Split, Wordings, expand

PROFILE: Final = "recommendation"

ASK_DEPARTMENT = {
    "en": Wordings(
        "A customer {text}. Which department fits: {labels}? Answer with one word.",
        "Profile: {text}\nDepartment ({labels}):",
        "Recommend a department. Departments: {labels}.\nThe customer {text}.\nOne word only.",
        "The customer {text}. Which department fits: {labels}? One word only.",
        "Recommend one department: {labels}. Answer with one word.\nProfile: {text}",
    ),
    "zh": Wordings(
        "顾客{text}。适合哪个专区：{labels}？只回答一个词。",
        "画像：{text}\n专区（{labels}）：",
        "推荐一个专区。专区：{labels}。\n顾客{text}。\n只回答专区。",
        "顾客{text}。推荐哪个专区：{labels}？只回答一个词。",
        "推荐适合的专区：{labels}。只回答专区。\n画像：{text}",
    ),
}


def department(split: Split, language: Language, rng: random.Random) -> Item:
    right = rng.choice(list(INTERESTS[language]))
    text = expand(INTERESTS[language][right].pick(split, rng), rng, slots(language, rng))
    labels = rng.sample(list(INTERESTS[language]), k=len(INTERESTS[language]))
    filled = {"labels": join_labels(labels, language), "text": text}
    prompt = expand(ASK_DEPARTMENT[language].pick(split, rng), rng, filled)
    return Item(f"department_{language}", PROFILE, prompt, right, "label", 10, right, tuple(labels))


ASK_LETTER = {
    "en": Wordings(
        "Catalogue:\n{catalogue}\nThe customer wants {wanted}. Answer with the letter only.",
        "{catalogue}\nWhich one is {wanted}? Letter only.",
        "Pick the item for a customer who likes {wanted}.\n{catalogue}\nAnswer with the letter only.",
        "Catalogue:\n{catalogue}\nPick the item that is {wanted}. Letter only.",
        "The customer likes {wanted}.\n{catalogue}\nAnswer with the letter only.",
    ),
    "zh": Wordings(
        "目录：\n{catalogue}\n顾客想要{wanted}的。只回答字母。",
        "{catalogue}\n哪个是{wanted}的？只回答字母。",
        "为喜欢{wanted}的顾客选一件。\n{catalogue}\n只回答字母。",
        "目录：\n{catalogue}\n哪个是顾客想要的{wanted}？只回答字母。",
        "顾客喜欢{wanted}的。\n{catalogue}\n只回答字母。",
    ),
}
ASK_NAME = {
    "en": Wordings(
        "Products: {catalogue}. The customer likes {wanted}. Which product? Name only.",
        "{catalogue}. Recommend the {wanted} one. Answer with its name only.",
        "Which product is {wanted}? Answer with the name.\n{catalogue}",
        "Products: {catalogue}. Recommend the product that is {wanted}. Name only.",
        "The customer likes {wanted}. Answer with the name only.\n{catalogue}",
    ),
    "zh": Wordings(
        "商品：{catalogue}。顾客喜欢{wanted}，推荐哪个？只回答名称。",
        "{catalogue}。推荐{wanted}的，只回答名称。",
        "哪个商品是{wanted}的？只回答名称。\n{catalogue}",
        "商品：{catalogue}。推荐{wanted}的商品，只回答名称。",
        "顾客喜欢{wanted}。只回答名称。\n{catalogue}",
    ),
}
ASK_BUDGET = {
    "en": Wordings(
        "Products: {catalogue}. The customer can pay up to {limit}. Which product fits? Name only.",
        "{catalogue}. Budget: {limit}. Recommend the one within the budget. Name only.",
        "Which product costs less than {limit}? Answer with the name.\n{catalogue}",
        "Products: {catalogue}. Budget: {limit}. Which product fits? Name only.",
        "The customer can pay up to {limit}. Answer with the name only.\n{catalogue}",
    ),
    "zh": Wordings(
        "商品：{catalogue}。顾客最多付{limit}，推荐哪个？只回答名称。",
        "{catalogue}。预算{limit}，推荐预算内的，只回答名称。",
        "哪个商品低于{limit}？只回答名称。\n{catalogue}",
        "商品：{catalogue}。预算{limit}，推荐哪个？只回答名称。",
        "顾客最多付{limit}。只回答名称。\n{catalogue}",
    ),
}


def pick_letter(split: Split, language: Language, rng: random.Random) -> Item:
    """A catalogue of three or four lettered products, one of which has the colour that is asked for."""
    count = rng.choice((3, 4))
    colours = rng.sample(words.COLOURS[language], k=count)
    products = rng.sample(words.PRODUCTS[language], k=count)
    gap = " " if language == "en" else ""
    lines = [f"{'ABCD'[place]}. {colours[place]}{gap}{products[place]}" for place in range(count)]
    right = rng.randrange(count)
    filled = {"catalogue": "\n".join(lines), "wanted": colours[right]}
    prompt = ASK_LETTER[language].pick(split, rng).format(**filled)
    letter = "ABCD"[right]
    names = tuple(line.split(". ", 1)[1] for line in lines)
    return Item(f"pick_letter_{language}", PROFILE, prompt, letter, "choice", 4, letter, names)


def _catalogue(brands: list[str], attributes: list[str], language: Language) -> str:
    opening, closing, comma = (" (", ")", ", ") if language == "en" else ("（", "）", "、")
    return comma.join(
        f"{brand}{opening}{attribute}{closing}" for brand, attribute in zip(brands, attributes, strict=True)
    )


def pick_name(split: Split, language: Language, rng: random.Random) -> Item:
    """Three or four named products with a colour or a city each; the name of the one that matches."""
    count = rng.choice((3, 4))
    brands = rng.sample(words.BRANDS[language], k=count)
    attributes = rng.sample(rng.choice((words.COLOURS, words.CITIES))[language], k=count)
    right = rng.randrange(count)
    filled = {"catalogue": _catalogue(brands, attributes, language), "wanted": attributes[right]}
    prompt = expand(ASK_NAME[language].pick(split, rng), rng, filled)
    return Item(
        f"pick_name_{language}", PROFILE, prompt, brands[right], "label", 10, brands[right], tuple(brands)
    )


def pick_budget(split: Split, language: Language, rng: random.Random) -> Item:
    """Three named products with a price each, one of which is within the budget."""
    unit = "$" if language == "en" else "元"
    limit = rng.randrange(2, 9) * 10
    prices = [rng.randrange(5, limit), *(rng.randrange(limit + 5, limit + 90) for _ in range(2))]
    rng.shuffle(prices)
    brands = rng.sample(words.BRANDS[language], k=3)
    written = [f"{unit}{price}" if language == "en" else f"{price}{unit}" for price in prices]
    budget = f"{unit}{limit}" if language == "en" else f"{limit}{unit}"
    filled = {"catalogue": _catalogue(brands, written, language), "limit": budget}
    prompt = expand(ASK_BUDGET[language].pick(split, rng), rng, filled)
    right = brands[prices.index(min(prices))]
    return Item(f"pick_budget_{language}", PROFILE, prompt, right, "label", 10, right, tuple(brands))
