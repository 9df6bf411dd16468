"""Customer-service items whose answer stands in a given policy text."""

import random
from dataclasses import dataclass
from typing import Final

from scripts.models.item import Item
from scripts.models.wording import Language, Split, Wordings, expand

PROFILE: Final = "customer-service"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy: how it is stated, how it is asked for, and the values it can have."""

    statements: Wordings
    questions: Wordings
    values: tuple[str, ...]


RULES = {
    "en": (
        Rule(
            Wordings(
                "Returns are accepted for {value}.",
                "You can return goods within {value}.",
                "Goods may be sent back for {value}.",
                "Goods can be returned within {value}.",
                "You may send goods back within {value}.",
            ),
            Wordings(
                "How long can I return goods?",
                "Within what time may I send something back?",
                "How much time do I have for a return?",
                "How long may I send goods back?",
                "How much time do I have to return something?",
            ),
            ("10 days", "15 days", "20 days", "30 days", "45 days", "60 days"),
        ),
        Rule(
            Wordings(
                "The warranty lasts {value}.",
                "We give a warranty of {value}.",
                "All products have {value} of warranty.",
                "All products have a warranty of {value}.",
                "We give {value} of warranty.",
            ),
            Wordings(
                "How long is the warranty?",
                "For how long do I have a warranty?",
                "How many months does the warranty last?",
                "How long does the warranty last?",
                "How many months of warranty do I have?",
            ),
            ("12 months", "18 months", "24 months", "36 months", "48 months"),
        ),
        Rule(
            Wordings(
                "Shipping costs {value}.",
                "The shipping fee is {value}.",
                "We charge {value} for shipping.",
                "We charge a shipping fee of {value}.",
                "For shipping we charge {value}.",
            ),
            Wordings(
                "What does shipping cost?",
                "How much is the shipping fee?",
                "How much do I pay for shipping?",
                "How much does shipping cost?",
                "What do I pay for shipping?",
            ),
            ("3 dollars", "4 dollars", "5 dollars", "6 dollars", "8 dollars", "9 dollars"),
        ),
        Rule(
            Wordings(
                "Support answers within {value}.",
                "Our support team replies in {value}.",
                "You get a reply from support within {value}.",
                "Our support team answers within {value}.",
                "Support replies within {value}.",
            ),
            Wordings(
                "How fast does support answer?",
                "When do I get a reply from support?",
                "How long does a reply from support take?",
                "How fast does support reply?",
                "How long does support take to answer?",
            ),
            ("6 hours", "12 hours", "24 hours", "36 hours", "48 hours"),
        ),
    ),
    "zh": (
        Rule(
            Wordings(
                "{value}内可以退货。",
                "退货期限为{value}。",
                "商品支持{value}退货。",
                "商品的退货期限是{value}。",
                "商品{value}内可以退货。",
            ),
            Wordings(
                "多久内可以退货？",
                "退货期限是多久？",
                "退货要在几天之内？",
                "可以在多久之内退货？",
                "几天之内可以退货？",
            ),
            ("10天", "15天", "20天", "30天", "45天", "60天"),
        ),
        Rule(
            Wordings(
                "保修期为{value}。",
                "所有产品保修{value}。",
                "我们提供{value}的保修。",
                "所有产品的保修期是{value}。",
                "我们保修{value}。",
            ),
            Wordings(
                "保修多久？", "保修期是多长时间？", "产品保修几个月？", "产品的保修期多久？", "保修几个月？"
            ),
            ("12个月", "18个月", "24个月", "36个月", "48个月"),
        ),
        Rule(
            Wordings(
                "运费{value}。",
                "每单收运费{value}。",
                "我们收取{value}运费。",
                "每单的运费是{value}。",
                "每单收取{value}运费。",
            ),
            Wordings("运费多少？", "运费要多少钱？", "我要付多少运费？", "运费是多少钱？", "要付多少运费？"),
            ("3元", "4元", "5元", "6元", "8元", "9元"),
        ),
        Rule(
            Wordings(
                "客服在{value}内回复。",
                "客服{value}内答复。",
                "您会在{value}内收到客服回复。",
                "客服会在{value}内答复您。",
                "客服{value}内回复您。",
            ),
            Wordings(
                "客服多久回复？",
                "客服多长时间答复？",
                "多久能收到客服回复？",
                "客服多久能答复？",
                "多长时间能收到客服回复？",
            ),
            ("6小时", "12小时", "24小时", "36小时", "48小时"),
        ),
    ),
}
ASK = {
    "en": Wordings(
        "Policy: {policy}\nQuestion: {question}\nAnswer with the value only.",
        "{policy}\nUse the text above. {question} Answer in two words.",
        "Read the policy and answer shortly.\n{policy}\n{question}",
        "Policy: {policy}\nUse the policy. {question} Answer with the value only.",
        "Read the policy.\n{policy}\nQuestion: {question} Answer shortly.",
    ),
    "zh": Wordings(
        "规定：{policy}\n问题：{question}\n只回答数值。",
        "{policy}\n根据上文回答：{question}",
        "阅读规定，简短回答。\n{policy}\n{question}",
        "规定：{policy}\n根据规定简短回答：{question}",
        "阅读规定。\n{policy}\n问题：{question}只回答数值。",
    ),
}


def policy_answer(split: Split, language: Language, rng: random.Random) -> Item:
    """A policy of three rules, and a question for one of them."""
    stated = rng.sample(RULES[language], k=3)
    values = [rng.choice(rule.values) for rule in stated]
    policy = (" " if language == "en" else "").join(
        expand(rule.statements.pick(split, rng), rng, {"value": value})
        for rule, value in zip(stated, values, strict=True)
    )
    asked = rng.randrange(3)
    question = stated[asked].questions.pick(split, rng)
    prompt = expand(ASK[language].pick(split, rng), rng, {"policy": policy, "question": question})
    return Item(f"policy_answer_{language}", PROFILE, prompt, [values[asked]], "contains", 16, values[asked])
