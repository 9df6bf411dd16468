"""Customer-service items: intent, sentiment, an entity of the message, an answer from a policy text."""

import random

from scripts.models import words
from scripts.models.item import Item
from scripts.models.wording import Language, Split, Wordings, expand

PROFILE = "customer-service"

INTENTS = {
    "en": {
        "refund": Wordings(
            "I want my money back for the {product}.",
            "Please [return|give back] the money I paid, the {product} [is broken|does not work].",
            "The {product} broke, how do I get a refund?",
            "[The {product} is broken|The {product} does not work] and I want a refund.",
            "How do I get the money back that I paid for a broken {product}?",
            "Can I send the {product} back and get [a refund|my money]?",
            "You still owe me a refund for the {product} I sent back.",
            "When will I be refunded for the {product}?",
            "I sent the {product} back, please pay me my money back.",
            "I would like to be refunded for the {product} I sent back.",
        ),
        "delivery": Wordings(
            "Where is my {product}? It has not arrived.",
            "My parcel is [late|delayed|lost], when will it come?",
            "When will the {product} [arrive|be delivered]?",
            "The {product} has not arrived, where is the parcel?",
            "My {product} is late, when will it be delivered?",
            "The tracking page says my package is still in {city}.",
            "I have been waiting for my package since {day}.",
            "The courier did not bring my parcel on {day}.",
            "I am still waiting for the courier with my package.",
            "My parcel was to arrive on {day}, the tracking shows nothing.",
        ),
        "login": Wordings(
            "I forgot my password.",
            "I cannot [log in|sign in] to my account.",
            "The website does not accept my password.",
            "My account does not accept the password, I cannot log in.",
            "I cannot sign in, I forgot the password of my account.",
            "How can I reset my password?",
            "My account is locked and I cannot get in.",
            "The login page [shows an error|keeps loading].",
            "How do I reset the password? My account is locked.",
            "The login shows an error and my account stays locked.",
        ),
        "cancel": Wordings(
            "Please cancel my order.",
            "I [no longer need|do not want] the {product}, cancel it.",
            "I want to end my subscription.",
            "Please cancel the {product}, I no longer need it.",
            "I do not want the order any more, please cancel it.",
            "Stop my membership from {day} on.",
            "I changed my mind about the {product}, please stop the order.",
            "How do I end my [membership|contract] with you?",
            "I changed my mind, please end my subscription.",
            "Stop the order of the {product}, I changed my mind.",
        ),
        "invoice": Wordings(
            "Please send me the invoice for the {product}.",
            "I need a receipt for my taxes.",
            "The invoice shows the wrong [address|company name].",
            "I need the invoice for the {product} for my taxes.",
            "Please send a receipt for the {product}.",
            "Where can I download my bill?",
            "There is a mistake on the bill for my {product}.",
            "My accountant needs a copy of the receipt.",
            "The bill shows a mistake, please send a new invoice.",
            "Where can I download the receipt for my accountant?",
        ),
        "hours": Wordings(
            "When does the shop in {city} open?",
            "Are you open on {day}?",
            "Until what time is the store open today?",
            "Is the shop in {city} open on {day}?",
            "Until what time is the store in {city} open?",
            "What are your opening hours in {city}?",
            "Do you close early on {day}?",
            "At what time do you close?",
            "What are the opening hours on {day}?",
            "At what time does the store close on {day}?",
        ),
    },
    "zh": {
        "退款": Wordings(
            "我要退款，{product}坏了。",
            "请把{product}的钱退给我。",
            "{product}不能用，怎么退钱？",
            "{product}坏了，请把钱退给我。",
            "{product}不能用，我要退款。",
            "我已经把{product}寄回去了，什么时候退款？",
            "退款怎么还没到账？",
            "{product}质量太差，我要把钱要回来。",
            "{product}质量太差，什么时候退款？",
            "我把{product}寄回去了，钱怎么还没退？",
        ),
        "物流": Wordings(
            "我的{product}到哪里了？",
            "包裹还没有收到。",
            "快递什么时候能送到？",
            "{product}的包裹到哪里了？",
            "我的快递还没有收到。",
            "物流信息一直停在{city}。",
            "我等了一个星期，{product}还没送来。",
            "快递员{day}没有来送货。",
            "物流一直没有更新，{product}还没送来。",
            "我等了很久，快递还停在{city}。",
        ),
        "登录": Wordings(
            "我忘记密码了。",
            "我的账号登录不了。",
            "网站提示密码错误。",
            "账号登录不了，提示密码错误。",
            "我忘记了账号的密码。",
            "怎么重置密码？",
            "账号被锁住了，进不去。",
            "登录页面一直出错。",
            "登录出错，怎么重置密码？",
            "账号进不去，登录页面出错。",
        ),
        "取消": Wordings(
            "请帮我取消订单。",
            "我不想要{product}了，取消吧。",
            "我要取消会员。",
            "我不想要了，请取消{product}的订单。",
            "请帮我取消会员。",
            "我改变主意了，不买{product}了。",
            "怎么停止自动续费？",
            "订单还没发货，我想撤销。",
            "我改变主意了，想撤销订单。",
            "不买{product}了，请撤销。",
        ),
        "发票": Wordings(
            "请给我开{product}的发票。",
            "发票的抬头写错了。",
            "我需要报销用的发票。",
            "请开一张{product}的报销发票。",
            "{product}的发票抬头写错了。",
            "电子发票在哪里下载？",
            "发票还没有寄给我。",
            "请把发票发到我的邮箱。",
            "{product}的电子发票请发到邮箱。",
            "在哪里下载{product}的发票？",
        ),
        "营业时间": Wordings(
            "你们几点开门？",
            "{city}的门店{day}开门吗？",
            "今天营业到几点？",
            "{city}的门店几点开门？",
            "{day}营业到几点？",
            "请问营业时间是什么？",
            "{day}晚上几点关门？",
            "节假日店里有人吗？几点关门？",
            "请问{city}店的营业时间？",
            "请问{day}几点关门？",
        ),
    },
}

SENTIMENTS = {
    "en": {
        "positive": Wordings(
            "I love this {product}, it is [great|wonderful].",
            "Great service, [very friendly|very fast] and helpful.",
            "The {product} works perfectly, I am [happy|very pleased].",
            "I am happy with the {product}, it works perfectly.",
            "The service was great and very friendly, I love it.",
            "Excellent {product}, I [recommend it to everyone|would buy it again].",
            "Best {product} I have ever had.",
            "Wonderful quality and fast help, thank you!",
            "Excellent quality, the best {product}, I recommend it.",
            "Thank you, wonderful help and an excellent {product}!",
        ),
        "negative": Wordings(
            "I hate this {product}, it is [terrible|awful].",
            "Terrible service, [very rude|very slow] and unhelpful.",
            "The {product} broke after one day, I am [angry|disappointed].",
            "I am angry, the {product} broke and the service is terrible.",
            "The service was awful and very slow, I hate it.",
            "Poor {product}, [a waste of money|I would never buy it again].",
            "Worst {product} I have ever had.",
            "Bad quality and rude staff, never again!",
            "Poor quality, the worst {product}, a waste of money.",
            "Never again, bad staff and a poor {product}!",
        ),
        "neutral": Wordings(
            "The {product} has a [{colour}|plain] cover.",
            "I ordered the {product} on {day}.",
            "The box contains the {product} and a manual.",
            "I ordered the {product} with a {colour} cover.",
            "The box contains a {colour} {product}.",
            "The {product} stands in the hall.",
            "It was delivered on {day}.",
            "The shop in {city} sells the {product} in {colour}.",
            "The {product} was delivered to {city} on {day}.",
            "The shop sells the {product} on {day}.",
        ),
    },
    "zh": {
        "正面": Wordings(
            "这个{product}太好了，我很喜欢。",
            "服务很棒，非常热情。",
            "{product}很好用，我很满意。",
            "我很喜欢这个{product}，很满意。",
            "{product}太好了，服务也很棒。",
            "质量一流，推荐大家购买{product}。",
            "这是我买过最好的{product}。",
            "客服很耐心，点赞！",
            "最好的{product}，推荐大家。",
            "{product}质量一流，点赞！",
        ),
        "负面": Wordings(
            "这个{product}太差了，我很失望。",
            "服务很糟糕，态度恶劣。",
            "{product}用一天就坏了，很生气。",
            "我对这个{product}很失望，服务糟糕。",
            "{product}太差了，我很生气。",
            "质量低劣，千万别买{product}。",
            "这是我买过最差的{product}。",
            "客服不理人，差评！",
            "最差的{product}，千万别买。",
            "{product}质量低劣，差评！",
        ),
        "中性": Wordings(
            "我{day}订了这个{product}。",
            "{product}是{colour}的。",
            "盒子里有{product}和说明书。",
            "我订的{product}是{colour}的。",
            "盒子里有一个{colour}{product}。",
            "{product}放在门口。",
            "货{day}到了{city}。",
            "{city}的店里有这个{product}。",
            "{product}{day}到了店里。",
            "{city}的店里有{colour}{product}。",
        ),
    },
}

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
