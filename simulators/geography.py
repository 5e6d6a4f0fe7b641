"""Where the simulated city stands: five divisions of Harbin and a lattice of streets around the centre of each.

Codes are GB/T 2260. Centres are real to a few hundred metres (WGS-84); street names are plausible, street geometry is
made up: segments of a lattice that follows the town's orientation, taken in a spiral from the centre outwards. Pure;
raises nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

METRES_PER_DEGREE = 111_320.0
_SPACING = 600.0  # metres between lattice points
STREET_LENGTH = 540.0  # metres


@dataclass(frozen=True, slots=True)
class District:
    """A division of the city; `weight` is its share of the devices, `bearing` turns the street lattice (degrees)."""

    code: str
    zh: str
    en: str
    lon: float
    lat: float
    bearing: float
    weight: float
    streets: tuple[tuple[str, str], ...]


_DAOLI = (
    ("中央大街", "Zhongyang Street"),
    ("友谊路", "Youyi Road"),
    ("经纬街", "Jingwei Street"),
    ("新阳路", "Xinyang Road"),
    ("抚顺街", "Fushun Street"),
    ("安国街", "Anguo Street"),
    ("河松街", "Hesong Street"),
    ("康安路", "Kang'an Road"),
)
_NANGANG = (
    ("东大直街", "East Dazhi Street"),
    ("果戈里大街", "Gogol Street"),
    ("学府路", "Xuefu Road"),
    ("红旗大街", "Hongqi Street"),
    ("中山路", "Zhongshan Road"),
    ("长江路", "Changjiang Road"),
    ("宣化街", "Xuanhua Street"),
    ("和兴路", "Hexing Road"),
)
_YILAN = (
    ("五国城路", "Wuguocheng Road"),
    ("通江路", "Tongjiang Road"),
    ("健康街", "Jiankang Street"),
    ("牡丹江街", "Mudanjiang Street"),
    ("倭肯河路", "Wokenhe Road"),
    ("文化路", "Wenhua Road"),
)
_BIN = (
    ("宾州大街", "Binzhou Street"),
    ("迎宾路", "Yingbin Road"),
    ("西大街", "Xida Street"),
    ("东大街", "Dongda Street"),
    ("英杰路", "Yingjie Road"),
    ("文明路", "Wenming Road"),
)
_BAYAN = (
    ("人民大街", "Renmin Street"),
    ("牌楼街", "Pailou Street"),
    ("建设路", "Jianshe Road"),
    ("东直路", "Dongzhi Road"),
    ("驿马山路", "Yimashan Road"),
    ("巴彦大街", "Bayan Street"),
)
DISTRICTS = (
    District("230102", "道里区", "Daoli District", 126.6170, 45.7560, 38.0, 0.28, _DAOLI),
    District("230103", "南岗区", "Nangang District", 126.6680, 45.7500, 42.0, 0.28, _NANGANG),
    District("230123", "依兰县", "Yilan County", 129.5680, 46.3250, 8.0, 0.16, _YILAN),
    District("230125", "宾县", "Bin County", 127.4850, 45.7560, 15.0, 0.14, _BIN),
    District("230126", "巴彦县", "Bayan County", 127.4030, 46.0810, 3.0, 0.14, _BAYAN),
)


@dataclass(frozen=True, slots=True)
class Street:
    """A straight street of `STREET_LENGTH` metres; `place` turns a position along it into coordinates."""

    zh: str
    en: str
    lon: float
    lat: float
    bearing: float

    def place(self, along: float, aside: float = 0.0) -> tuple[float, float]:
        """(lon, lat) at `along` metres from its beginning and `aside` metres to its right, rounded to 0.1 m."""
        angle = math.radians(self.bearing)
        north = along * math.cos(angle) - aside * math.sin(angle)
        east = along * math.sin(angle) + aside * math.cos(angle)
        lat = self.lat + north / METRES_PER_DEGREE
        return round(self.lon + east / (METRES_PER_DEGREE * math.cos(math.radians(self.lat))), 6), round(lat, 6)


def _spiral() -> Iterator[tuple[int, int]]:
    """Lattice points in rings around (0, 0)."""
    yield 0, 0
    ring = 0
    while True:
        ring += 1
        for step in range(2 * ring):
            yield ring, step - ring
            yield ring - 1 - step, ring
            yield -ring, ring - 1 - step
            yield step - ring, -ring


def streets(district: District) -> Iterator[Street]:
    """Endless: every lattice point carries one street, crossing directions alternate, names repeat with a lane
    number.
    """
    scale = math.cos(math.radians(district.lat))
    turn = math.radians(district.bearing)
    for index, (x, y) in enumerate(_spiral()):
        lane, which = divmod(index, len(district.streets))
        zh, en = district.streets[which]
        if lane:
            zh, en = f"{zh}{lane}巷", f"{en} Lane {lane}"
        along = (x + y) % 2 == 0
        # The street starts half its length before its lattice point.
        north = y * _SPACING - (STREET_LENGTH / 2 if along else 0.0)
        east = x * _SPACING - (0.0 if along else STREET_LENGTH / 2)
        turned_north = north * math.cos(turn) - east * math.sin(turn)
        turned_east = north * math.sin(turn) + east * math.cos(turn)
        yield Street(
            zh,
            en,
            district.lon + turned_east / (METRES_PER_DEGREE * scale),
            district.lat + turned_north / METRES_PER_DEGREE,
            district.bearing + (0.0 if along else 90.0),
        )
