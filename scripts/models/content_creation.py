"""Content-creation items: tone, topic, advert, list, slogan of a given length, free paragraph."""

import random
import re
from typing import Final

from scripts.models import words
from scripts.models.content_texts import PARAGRAPHS, SUBJECTS, TONES, TOPICS
from scripts.models.customer_service import join_labels, slots
from scripts.models.item import Item
from scripts.models.wording import Language, Split, Wordings, expand

PROFILE: Final = "content-creation"

ASK_TONE = {
    "en": Wordings(
        "What is the tone of this text: {labels}? Answer with one word.\n{text}",
        "Text: {text}\nTone ({labels}):",
        "Label the tone. Labels: {labels}.\nText: {text}\nOne word only.",
        "Text: {text}\nWhat is its tone: {labels}? Answer with one word.",
        "Label the tone of this text: {labels}. One word only.\n{text}",
    ),
    "zh": Wordings(
        "这段文字的语气是{labels}？只回答一个词。\n{text}",
        "文字：{text}\n语气（{labels}）：",
        "标注语气。标签：{labels}。\n文字：{text}\n只回答标签。",
        "文字：{text}\n语气是{labels}？只回答一个词。",
        "标注这段文字的语气：{labels}。只回答标签。\n{text}",
    ),
}
ASK_TOPIC = {
    "en": Wordings(
        "What is this post about: {labels}? Answer with one word.\n{text}",
        "Post: {text}\nTopic ({labels}):",
        "Give the topic of the post. Topics: {labels}.\nPost: {text}\nOne word only.",
        "Post: {text}\nWhat is it about: {labels}? Answer with one word.",
        "Give the topic of this post: {labels}. One word only.\n{text}",
    ),
    "zh": Wordings(
        "这条动态讲的是{labels}？只回答一个词。\n{text}",
        "动态：{text}\n主题（{labels}）：",
        "标注动态的主题。主题：{labels}。\n动态：{text}\n只回答主题。",
        "动态：{text}\n讲的是{labels}？只回答一个词。",
        "标注这条动态的主题：{labels}。只回答主题。\n{text}",
    ),
}


def tone(split: Split, language: Language, rng: random.Random) -> Item:
    right = rng.choice(list(TONES[language]))
    text = expand(TONES[language][right].pick(split, rng), rng, slots(language, rng))
    labels = rng.sample(list(TONES[language]), k=len(TONES[language]))
    filled = {"labels": join_labels(labels, language), "text": text}
    prompt = expand(ASK_TONE[language].pick(split, rng), rng, filled)
    return Item(f"tone_{language}", PROFILE, prompt, right, "label", 10, right, tuple(labels))


def topic(split: Split, language: Language, rng: random.Random) -> Item:
    right = rng.choice(list(TOPICS[language]))
    text = expand(TOPICS[language][right].pick(split, rng), rng, slots(language, rng))
    labels = rng.sample(list(TOPICS[language]), k=len(TOPICS[language]))
    filled = {"labels": join_labels(labels, language), "text": text}
    prompt = expand(ASK_TOPIC[language].pick(split, rng), rng, filled)
    return Item(f"topic_{language}", PROFILE, prompt, right, "label", 10, right, tuple(labels))


ASK_ADVERT = {
    "en": Wordings(
        "Write one short sentence that advertises a {product}. It must name the price {price} "
        "and the city {city}.",
        "Advertise a {product} in one sentence with these facts: price {price}, city {city}.",
        "Facts: {product}, {price}, {city}. Write one advertising sentence with all the facts.",
        "Write one advertising sentence for a {product}. Facts: price {price}, city {city}.",
        "Advertise in one short sentence: {product}, {price}, {city}. Name all the facts.",
    ),
    "zh": Wordings(
        "为{product}写一句广告，必须写出价格{price}和城市{city}。",
        "用一句话宣传{product}，包含这些信息：价格{price}，城市{city}。",
        "信息：{product}，{price}，{city}。写一句包含全部信息的广告。",
        "写一句{product}的广告，包含信息：价格{price}，城市{city}。",
        "用一句广告宣传：{product}，{price}，{city}，必须包含全部信息。",
    ),
}
ADVERTS = {
    "en": (
        "Get your new {product} in {city} for only {price}.",
        "Buy the {product} today in {city} for {price}.",
        "The best {product} in {city} costs only {price}.",
    ),
    "zh": ("{city}特价{product}，只要{price}！", "来{city}买{product}，只需{price}！"),
}


def advert(split: Split, language: Language, rng: random.Random) -> Item:
    """One sentence with three facts, at most 24 words or 40 characters."""
    price = rng.randrange(5, 200)
    facts = {
        "product": rng.choice(words.PRODUCTS[language]),
        "city": rng.choice(words.CITIES[language]),
        "price": f"${price}" if language == "en" else f"{price}元",
    }
    prompt = expand(ASK_ADVERT[language].pick(split, rng), rng, facts)
    target = expand(rng.choice(ADVERTS[language]), rng, facts)
    required = "".join(f"(?=[^\\n]*{re.escape(fact)})" for fact in facts.values())
    length = r"\s*(?:\S+[ ]){3,23}\S+\s*$" if language == "en" else r"\s*[^\n]{6,40}\s*$"
    return Item(f"advert_{language}", PROFILE, prompt, f"(?i)^{required}{length}", "regex", 40, target)


ASK_LIST = {
    "en": Wordings(
        "Write these as a Markdown list, one item per line: {things}.",
        "Make a bullet list with '- ' from: {things}.",
        "Turn this into a list, each line starting with '- '.\n{things}",
        "Write these as a list, each line starting with '- ': {things}.",
        "Make a Markdown list, one item per line.\n{things}",
    ),
    "zh": Wordings(
        "把下面的内容写成Markdown列表，每行一项：{things}。",
        "用“- ”开头列出：{things}。",
        "改成列表，每行以“- ”开头。\n{things}",
        "写成列表，每行以“- ”开头：{things}。",
        "把内容改成Markdown列表，每行一项。\n{things}",
    ),
}


def bullet_list(split: Split, language: Language, rng: random.Random) -> Item:
    things = rng.sample(words.PRODUCTS[language] + words.COLOURS[language], k=rng.choice((3, 4)))
    comma, last = (", ", " and ") if language == "en" else ("、", "和")
    joined = comma.join(things[:-1]) + last + things[-1]
    prompt = expand(ASK_LIST[language].pick(split, rng), rng, {"things": joined})
    target = "\n".join(f"- {thing}" for thing in things)
    pattern = r"(?i)^\s*" + r"\s*\n".join(f"[-*] {re.escape(thing)}" for thing in things) + r"[.。]?\s*$"
    return Item(f"bullet_list_{language}", PROFILE, prompt, pattern, "regex", 32, target)


ASK_SLOGAN = {
    "en": Wordings(
        "Write a slogan of exactly {count} words for a {product} shop.",
        "Give me a {count}-word slogan for a shop that sells a {product}.",
        "Slogan for a {product} shop, exactly {count} words, nothing else:",
        "A slogan for a {product} shop in exactly {count} words, nothing else.",
        "Write a {count}-word slogan for a {product} shop.",
    ),
    "zh": Wordings(
        "为{product}店写一句正好{count}个字的口号。",
        "写一句{count}个字的{product}广告语。",
        "{product}店的口号，正好{count}个字，只写口号：",
        "写一句{product}店的口号，正好{count}个字。",
        "为{product}写一句{count}个字的口号，只写口号。",
    ),
}
COUNTS = {"en": {3: "three", 4: "four", 5: "five", 6: "six"}, "zh": {4: "四", 5: "五", 6: "六", 7: "七"}}
SLOGANS = {
    "en": {
        3: ("Quality you trust", "Better every day", "Made for you"),
        4: ("Simply better every day", "Small prices, big joy", "Good things start here"),
        5: ("The best choice for you", "Good quality at fair prices", "Made with care for you"),
        6: (
            "Good things for you every day",
            "The best quality at fair prices",
            "We make your home feel better",
        ),
    },
    "zh": {
        4: ("品质生活", "值得信赖", "天天优惠"),
        5: ("好品质之选", "生活更美好", "每天都优惠"),
        6: ("好品质好生活", "让生活更美好", "选我们更放心"),
        7: ("好品质值得信赖", "让每天更加美好", "好生活从此开始"),
    },
}


def slogan(split: Split, language: Language, rng: random.Random) -> Item:
    """A slogan of exactly so many words (English) or characters (Chinese)."""
    count = rng.choice(list(COUNTS[language]))
    written = COUNTS[language][count] if rng.random() < 0.5 else str(count)
    filled = {"count": written, "product": rng.choice(words.PRODUCTS[language])}
    prompt = expand(ASK_SLOGAN[language].pick(split, rng), rng, filled)
    target = rng.choice(SLOGANS[language][count])
    if language == "en":
        pattern = rf"^\s*(?:\S+[ ]){{{count - 1}}}\S+\s*$"
    else:
        pattern = rf"^\s*[“\"]?[一-鿿]{{{count}}}[”\"。！!]?\s*$"
    return Item(f"slogan_{language}", PROFILE, prompt, pattern, "regex", 24, target)


ASK_PARAGRAPH = {
    "en": Wordings(
        "Write a short blog paragraph about {subject}.",
        "Write four sentences about {subject}.",
        "A paragraph for our blog, please. Subject: {subject}.",
        "Describe {subject} in three full sentences.",
        "Write a paragraph of about 50 words about {subject}.",
    ),
    "zh": Wordings(
        "写一段关于{subject}的短文。",
        "用四句话写{subject}。",
        "请为博客写一段话，主题是{subject}。",
        "用三个完整的句子描写{subject}。",
        "写一段五十字左右的话，主题是{subject}。",
    ),
}


def paragraph(split: Split, language: Language, rng: random.Random) -> Item:
    """At least 30 words (English) or characters (Chinese) that name the subject."""
    subject = rng.choice(SUBJECTS[language])
    prompt = expand(ASK_PARAGRAPH[language].pick(split, rng), rng, {"subject": subject})
    target = expand(rng.choice(PARAGRAPHS[language]), rng, {"subject": subject})
    if language == "en":
        pattern = rf"(?is)^(?=.*{subject.split()[-1]})\s*(?:\S+\s+){{29}}"
    else:
        pattern = rf"(?s)^(?=.*{subject})(?:[^一-鿿]*[一-鿿]){{30}}"
    return Item(f"paragraph_{language}", PROFILE, prompt, pattern, "regex", 72, target)
