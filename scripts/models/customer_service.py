"""Customer-service items: intent, sentiment, an entity of the message, an answer from a policy text."""

import random
from typing import Final

from scripts.models import words
from scripts.models.customer_texts import INTENTS, SENTIMENTS
from scripts.models.item import Item
from scripts.models.wording import Language, Split, Wordings, expand

PROFILE: Final = "customer-service"


ASK_INTENT = {
    "en": Wordings(
        "What does the customer want: {labels}? Answer with one word.\n{text}",
        "Label the message with its intent. Labels: {labels}.\nMessage: {text}\nAnswer with the label only.",
        "Customer: {text}\nWhich intent is this: {labels}? One word.",
        "Customer message: {text}\nWhat is the intent? Labels: {labels}. Answer with one word.",
        "Which intent does this message have: {labels}? Answer with the label only.\nMessage: {text}",
    ),
    "zh": Wordings(
        "客户想要什么：{labels}？只回答一个词。\n{text}",
        "给留言标注意图。标签：{labels}。\n留言：{text}\n只回答标签。",
        "客户：{text}\n这是哪种意图：{labels}？",
        "客户留言：{text}\n意图是什么？标签：{labels}。只回答一个词。",
        "这条留言是哪种意图：{labels}？只回答标签。\n留言：{text}",
    ),
}
ASK_SENTIMENT = {
    "en": Wordings(
        "Is this review {labels}? Answer with one word.\n{text}",
        "Review: {text}\nSentiment ({labels}):",
        "Label the sentiment of the text: {labels}.\nText: {text}\nOne word only.",
        "Text: {text}\nIs the sentiment {labels}? Answer with one word.",
        "What is the sentiment of this review: {labels}? One word only.\n{text}",
    ),
    "zh": Wordings(
        "这条评价是{labels}？只回答一个词。\n{text}",
        "评价：{text}\n情感（{labels}）：",
        "标注文本的情感：{labels}。\n文本：{text}\n只回答标签。",
        "文本：{text}\n情感是{labels}？只回答一个词。",
        "这条评价的情感是什么：{labels}？只回答标签。\n{text}",
    ),
}
OR = {"en": (", ", " or "), "zh": ("、", "还是")}


def join_labels(labels: list[str], language: Language) -> str:
    comma, last = OR[language]
    return comma.join(labels[:-1]) + last + labels[-1]


def slots(language: Language, rng: random.Random) -> dict[str, str]:
    """The words that fill a message's slots."""
    return {
        "product": rng.choice(words.PRODUCTS[language]),
        "city": rng.choice(words.CITIES[language]),
        "day": rng.choice(words.WEEKDAYS[language]),
        "colour": rng.choice(words.COLOURS[language]),
    }


def intent(split: Split, language: Language, rng: random.Random) -> Item:
    right = rng.choice(list(INTENTS[language]))
    text = expand(INTENTS[language][right].pick(split, rng), rng, slots(language, rng))
    labels = rng.sample(list(INTENTS[language]), k=len(INTENTS[language]))
    prompt = expand(
        ASK_INTENT[language].pick(split, rng), rng, {"labels": join_labels(labels, language), "text": text}
    )
    return Item(f"intent_{language}", PROFILE, prompt, right, "label", 12, right, tuple(labels))


def sentiment(split: Split, language: Language, rng: random.Random) -> Item:
    right = rng.choice(list(SENTIMENTS[language]))
    text = expand(SENTIMENTS[language][right].pick(split, rng), rng, slots(language, rng))
    labels = rng.sample(list(SENTIMENTS[language]), k=3)
    words_of = {"labels": join_labels(labels, language), "text": text}
    prompt = expand(ASK_SENTIMENT[language].pick(split, rng), rng, words_of)
    return Item(f"sentiment_{language}", PROFILE, prompt, right, "label", 10, right, tuple(labels))


ORDERS = {
    "en": Wordings(
        "My order {order} has not come yet.",
        "I am writing about order {order}, a {product} for {name}.",
        "Hello, {name} here. The {product} from order {order} is broken.",
        "Hello, I am writing about order {order}, it has not come yet.",
        "Order {order}: the {product} for {name} is broken.",
        "Please check {order}, I paid on {day}.",
        "The {product} is the wrong colour. My number is {order}. Regards, {name}",
        "Could you look at {order}? It was sent to {city}.",
        "Could you check {order}? I paid for a {product} on {day}. Regards, {name}",
        "Please look at my number {order}, it is the wrong {product}.",
    ),
    "zh": Wordings(
        "我的订单{order}还没到。",
        "您好，我是{name}，订单{order}的{product}坏了。",
        "我想问一下订单{order}，买的是{product}。",
        "您好，我想问一下订单{order}，还没到。",
        "我是{name}，订单{order}买的{product}坏了。",
        "请查一下{order}，我{day}付的款。",
        "{product}颜色不对，单号是{order}。",
        "{order}寄到{city}了吗？",
        "请查一下单号{order}，寄到{city}了吗？",
        "单号是{order}，{day}付的款，{product}颜色不对。",
    ),
}
ASK_ORDER = {
    "en": Wordings(
        "Give only the order number in this message.\n{text}",
        "Message: {text}\nOrder number:",
        "Which order number does the customer name? Answer with the number only.\n{text}",
        "Message: {text}\nWhich order number is in the message? Give only the number.",
        "Find the order number. Answer with the order number only.\n{text}",
    ),
    "zh": Wordings(
        "只写出留言里的订单号。\n{text}",
        "留言：{text}\n订单号：",
        "客户提到的订单号是什么？只回答订单号。\n{text}",
        "留言：{text}\n订单号是什么？只写出订单号。",
        "找出订单号，只回答订单号。\n{text}",
    ),
}


def order_number(split: Split, language: Language, rng: random.Random) -> Item:
    order = words.order_number(rng)
    filled = slots(language, rng) | {"order": order, "name": words.person(language, rng)}
    text = expand(ORDERS[language].pick(split, rng), rng, filled)
    prompt = expand(ASK_ORDER[language].pick(split, rng), rng, {"text": text})
    return Item(f"order_number_{language}", PROFILE, prompt, order, "exact", 16, order)
