"""Word lists, English and Chinese, that fill the slots of the generated items."""

import random

from scripts.models.wording import Language


def _listed(words: str) -> list[str]:
    return words.split()


FIRST_NAMES = _listed(
    "Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Karen Leo Maria Nils Olga Peter "
    "Rosa Simon Tara Victor Wendy Alice Bruno Carol Dennis Elena Frank Greta Hugo Irene Jack "
    "Kate Liam Mona Noah Paula Robin Sara Tom Vera"
)
LAST_NAMES = _listed(
    "Berg Clark Dean Evans Fox Grant Hall Irwin Jones Keller Lane Moore North Owens Park "
    "Quinn Reed Stone Turner Wade Young Baker Carter Dixon Ford Gray Hill Kent Long Marsh "
    "Nash Page Ross Shaw Wells"
)
SURNAMES_ZH = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN_NAMES_ZH = _listed(
    "伟 芳 娜 敏 静 强 磊 军 洋 勇 杰 娟 涛 明 超 秀兰 建国 志强 晓红 海燕 文博 雨桐 子涵 思远 佳怡"
)
CITIES = {
    "en": _listed(
        "Oslo Paris Berlin Madrid Rome Vienna Lisbon Dublin London Prague Boston Chicago Denver "
        "Seattle Sydney Toronto Bergen Milan Zurich Geneva Athens Warsaw Delhi Cairo Tokyo"
    ),
    "zh": _listed(
        "北京 上海 广州 深圳 杭州 南京 成都 武汉 西安 重庆 天津 苏州 青岛 大连 厦门 长沙 昆明 郑州"
    ),
}
PRODUCTS = {
    "en": _listed(
        "lamp chair kettle backpack camera printer jacket bicycle blender keyboard tent watch "
        "desk toaster speaker heater carpet mirror suitcase monitor radio drill vase helmet "
        "blanket"
    ),
    "zh": _listed(
        "台灯 椅子 水壶 背包 相机 打印机 外套 自行车 搅拌机 键盘 帐篷 手表 书桌 烤箱 "
        "音箱 地毯 镜子 行李箱 显示器 头盔"
    ),
}
COLOURS = {
    "en": _listed("red blue green black white yellow brown grey orange purple pink silver"),
    "zh": _listed("红色 蓝色 绿色 黑色 白色 黄色 棕色 灰色 橙色 紫色 粉色 银色"),
}
BRANDS = {
    "en": _listed(
        "Nova Terra Luma Orbit Pixel Delta Zenith Coral Ember Falcon Indigo Juno Karma Lotus "
        "Mango Nimbus Onyx Prism Quartz Raven Sierra Topaz Vega Willow"
    ),
    "zh": _listed("星河 云海 晨光 远山 蓝鲸 青松 白鹭 红枫 金穗 银杏 飞鱼 雪莲 海棠 朝阳 明月 长风"),
}
COMPANY_FIRST = _listed(
    "North River Blue Summit Golden Bright Harbor Maple Iron Silver Green Ocean Royal Swift Union Crystal"
)
COMPANY_SECOND = _listed(
    "Foods Tools Logistics Textiles Energy Media Motors Papers Systems Glass Farms Design"
)
COMPANY_ZH = _listed("宏达 东方 新华 远景 天成 华盛 嘉禾 永兴 中信达 金源 瑞丰 恒泰 博雅 同创")
TRADE_ZH = _listed("食品 机械 物流 纺织 能源 传媒 汽车 科技 建材 农业")
MONTHS = _listed("January February March April May June July August September October November December")
WEEKDAYS = {
    "en": _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "zh": _listed("周一 周二 周三 周四 周五 周六 周日"),
}


def person(language: Language, rng: random.Random) -> str:
    if language == "zh":
        return rng.choice(SURNAMES_ZH) + rng.choice(GIVEN_NAMES_ZH)
    return f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}"


def company(language: Language, rng: random.Random) -> str:
    if language == "zh":
        return f"{rng.choice(COMPANY_ZH)}{rng.choice(TRADE_ZH)}公司"
    return f"{rng.choice(COMPANY_FIRST)} {rng.choice(COMPANY_SECOND)}"


def order_number(rng: random.Random) -> str:
    """An order number in one of three shapes: `FS-48213`, `73912`, `A7-2231`."""
    shape = rng.randrange(3)
    if shape == 0:
        return f"{rng.choice(('FS', 'OR', 'KD'))}-{rng.randrange(10_000, 99_999)}"
    if shape == 1:
        return str(rng.randrange(10_000, 99_999))
    return f"{rng.choice('ABCDEF')}{rng.randrange(1, 9)}-{rng.randrange(1_000, 9_999)}"


def calendar_date(rng: random.Random) -> tuple[int, int, int]:
    """A year, month and day that every month has."""
    return rng.randrange(2021, 2030), rng.randrange(1, 13), rng.randrange(1, 29)


def spoken_date(date: tuple[int, int, int], language: Language, rng: random.Random) -> str:
    year, month, day = date
    if language == "zh":
        return f"{year}年{month}月{day}日"
    name = MONTHS[month - 1]
    return rng.choice((f"{day} {name} {year}", f"{name} {day}, {year}"))


def iso_date(date: tuple[int, int, int]) -> str:
    return "{:04d}-{:02d}-{:02d}".format(*date)
