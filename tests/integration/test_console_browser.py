"""The console in a real browser (Debian's Chromium) on the real API: what an operator does, on a desk and on a phone.

Screenshots are kept in `TEST_SCREENSHOTS` (default `build/screenshots`).
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from storage.sqlite_store import SqliteStore
from tests.console_city import ConsoleCity

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parent.parent.parent
STATIC = ROOT / "api" / "static"
SCREENSHOTS = Path(os.environ.get("TEST_SCREENSHOTS") or ROOT / "build" / "screenshots")
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SMALLEST = {"width": 360, "height": 740}

WORDS: dict[str, dict[str, Any]] = {
    "zh": {
        "burst": "表后爆管",
        "live": "实时",
        "reconnecting": "正在重连",
        "stale": "数据停在",
        "acknowledge": "确认告警",
        "with_note": "确认并备注",
        "done": "已处理",
        "acknowledged": "已确认",
        "day": "24 小时",
        "balanced": "账目相符",
        "healthy": "接入正常",
        "hex": "十六进制",
        "moved_on": "刚发生了变化",
        "supply_low": "供水压力过低",
        "points": "{} 个测点".format,
        "all": "确认 {} 条".format,
    },
    "en": {
        "burst": "Burst behind the meter",
        "live": "Live",
        "reconnecting": "Reconnecting",
        "stale": "Stale since",
        "acknowledge": "Acknowledge",
        "with_note": "Acknowledge with note",
        "done": "Done",
        "acknowledged": "Acknowledged",
        "day": "24 h",
        "balanced": "Balanced",
        "healthy": "Ingest is healthy",
        "hex": "Hex",
        "moved_on": "changed just before",
        "supply_low": "Supply pressure low",
        "points": "{} points".format,
        "all": "Acknowledge {}".format,
    },
}

# The browser says nothing of a refused inline style or script unless it is asked to.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; on CI every part must be present")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        absent("chromium is not installed (Debian: apt-get install chromium)")
    if not (STATIC / "index.html").is_file():
        absent("the console is not built (deploy/build_console.py)")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
        )
        yield launched
        launched.close()


@pytest.fixture
def city(tmp_path: Path) -> ConsoleCity:
    return ConsoleCity(tmp_path, SqliteStore(tmp_path / "telemetry.db"))


@pytest.fixture
def serve(city: ConsoleCity) -> Iterator[Callable[..., str]]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(city.served(STATIC, **options))


class Visit:
    """One browser window of one person, and what it complained about."""

    def __init__(self, context: BrowserContext, base: str, language: str, name: str) -> None:
        self.page: Page = context.new_page()
        self.base = base
        self.words = WORDS[language]
        self.complaints: list[str] = []
        self._name = name
        self.page.add_init_script(REPORT_VIOLATIONS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def log_in(self, code: str) -> None:
        self.page.goto(f"{self.base}/login#code={code}")
        expect(self.page.locator(".row").first).to_be_visible()

    def shoot(self, what: str) -> None:
        """A screenshot, and the proof that nothing is cut off sideways."""
        beyond = self.page.evaluate(
            "document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth"
        )
        assert beyond <= 0, f"{what} is {beyond} px too wide"
        self.page.screenshot(path=SCREENSHOTS / f"{self._name}-{what}.png", animations="allow")

    def ink(self, canvas: int = 0) -> int:
        """How many pixels of a chart are drawn."""
        return int(
            self.page.locator("canvas")
            .nth(canvas)
            .evaluate(
                """canvas => {
                     const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                     let drawn = 0;
                     for (let at = 3; at < data.length; at += 4) if (data[at] > 60) drawn += 1;
                     return drawn;
                   }"""
            )
        )


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    opened: list[BrowserContext] = []

    def open_window(base: str, language: str = "zh", size: dict[str, int] = DESK, scheme: str = "light") -> Visit:
        phone = size["width"] < 500
        context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            locale="zh-CN" if language == "zh" else "en-GB",
            timezone_id="America/New_York",
            color_scheme=scheme,  # type: ignore[arg-type]
            has_touch=phone,
            is_mobile=phone,
            device_scale_factor=2 if phone else 1,
        )
        context.set_default_timeout(15_000)
        opened.append(context)
        return Visit(context, base, language, f"{language}-{size['width']}-{scheme}")

    yield open_window
    for context in opened:
        context.close()


@pytest.mark.parametrize(
    ("language", "size", "scheme"),
    [("zh", DESK, "light"), ("en", DESK, "dark"), ("zh", PHONE, "dark"), ("en", PHONE, "light")],
    ids=["zh-desk", "en-desk-dark", "zh-phone-dark", "en-phone"],
)
def test_an_operator_works_an_alarm_from_the_login_link_to_the_ingest_health(
    city: ConsoleCity,
    serve: Callable[..., str],
    visit: Callable[..., Visit],
    language: str,
    size: dict[str, int],
    scheme: str,
) -> None:
    base = serve()
    window = visit(base, language, size, scheme)
    page, words = window.page, window.words

    # Login: the code leaves the address bar.
    window.log_in(city.login_code())
    assert page.url == f"{base}/"
    expect(page.get_by_role("status").filter(has_text=words["live"])).to_be_visible()

    # Alarms: one more comes in while we look, without being asked for.
    rows = page.locator(".row")
    expect(page.locator(".tile.critical b")).to_have_text("3")
    before = rows.count()
    window.shoot("1-alarms")
    city.raise_new()
    newest = rows.filter(has_text=city.fresh.id)
    expect(newest).to_be_visible()
    expect(newest).to_have_class(re.compile("fresh"))
    named, zone = getattr(city.fresh, f"name_{language}"), city.zone_of(city.fresh)
    expect(newest).to_contain_text(named)
    expect(newest).to_contain_text(getattr(zone, f"name_{language}"))
    expect(newest).not_to_contain_text(zone.id)
    expect(page.locator(".tile.critical b")).to_have_text("4")
    assert rows.count() == before + 1
    window.shoot("2-new-alarm")

    # The alarm: why it fired, then acknowledged with a note, applied by the rules engine.
    rows.filter(has_text=city.burst.id).locator("a").first.click()
    expect(page.get_by_role("heading", name=words["burst"])).to_be_visible()
    expect(page.locator("header.panel")).to_contain_text(getattr(city.burst, f"name_{language}"))
    expect(page.locator("header.panel")).to_contain_text(getattr(city.zone_of(city.burst), f"name_{language}"))
    page.locator("canvas").wait_for()
    page.wait_for_timeout(200)
    assert window.ink() > 1500
    window.shoot("3-alarm")
    page.locator("#note").fill("已通知抢修班 / crew informed")
    page.get_by_role("button", name=words["with_note"]).click()
    expect(page.get_by_text(words["done"])).to_be_visible()
    history = page.locator("li.acknowledge")
    expect(history).to_contain_text("李娜")
    expect(history).to_contain_text("crew informed")
    expect(page.locator("header .state")).to_have_text(words["acknowledged"])
    expect(page.get_by_role("button", name=words["acknowledge"], exact=True)).to_have_count(0)
    window.shoot("4-acknowledged")

    # Its device, with charts over an hour and a day.
    page.locator(".title a.mono").click()
    page.locator("canvas").nth(2).wait_for()
    page.wait_for_timeout(300)
    assert all(window.ink(chart) > 500 for chart in range(3))
    window.shoot("5-device")
    with page.expect_response(lambda response: "bucket=300000" in response.url and response.ok):
        page.get_by_text(words["day"], exact=True).click()
    page.wait_for_timeout(300)
    assert window.ink() > 500
    window.shoot("6-device-day")
    page.goto(f"{base}/devices")
    expect(page.locator("td .name, .card").first).to_be_visible()
    window.shoot("7-devices")

    # Ingest health: the sum comes out, and a quarantined message can be read as text and as bytes.
    page.goto(f"{base}/health")
    expect(page.get_by_role("heading", name=words["healthy"])).to_be_visible()
    expect(page.get_by_text(words["balanced"])).to_be_visible()
    expect(page.locator(".gateways li").first).to_have_class(re.compile("offline"))
    page.locator(".rate canvas").wait_for()
    page.wait_for_timeout(200)
    window.shoot("8-health")
    page.locator(".message").first.click()
    expect(page.locator("pre")).to_contain_text('{"t":1767225600000')
    page.get_by_text(words["hex"], exact=True).click()
    expect(page.locator("pre")).to_contain_text("7b 22 74 22")
    page.locator("pre").scroll_into_view_if_needed()
    window.shoot("9-quarantine")

    # The smallest phone; the other language.
    page.set_viewport_size(SMALLEST)  # type: ignore[arg-type]
    for path in ("/", "/devices", f"/devices/{city.burst.id}", "/health"):
        page.goto(f"{base}{path}")
        page.locator(".row, .card, canvas, .verdict").first.wait_for()
        window.shoot(f"360{path.replace('/', '-')}")
    page.get_by_role("button", name="English" if language == "zh" else "中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "en" if language == "zh" else "zh-CN")

    assert window.complaints == []


def test_a_refused_action_says_why_and_shows_the_newest_state(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    window = visit(serve())
    page = window.page
    # Without its stream the page cannot know that somebody else was faster.
    page.route("**/v1/stream*", lambda route: route.abort())
    window.log_in(city.login_code())
    page.locator(".row").filter(has_text=city.burst.id).locator("a").first.click()
    expect(page.get_by_role("heading", name=window.words["burst"])).to_be_visible()
    city.change_behind_the_back(city.burst.id)
    page.get_by_role("button", name=window.words["acknowledge"]).click()
    expect(page.get_by_role("alert")).to_contain_text(window.words["moved_on"])
    expect(page.locator("li.comment")).to_contain_text("已到现场")
    window.shoot("refused")
    page.get_by_role("button", name=window.words["acknowledge"]).click()
    expect(page.get_by_text(window.words["done"])).to_be_visible()


def test_a_broken_connection_is_visible_and_nothing_is_missed_when_it_returns(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    window = visit(serve(stream_lifetime=2.0))
    page = window.page
    window.log_in(city.login_code())
    link = page.locator(".link")
    expect(link).to_have_text(window.words["live"])
    page.wait_for_timeout(4500)  # renewed at least once meanwhile, unnoticed
    expect(link).to_have_text(window.words["live"])
    assert window.complaints == []

    page.route("**/v1/stream*", lambda route: route.abort())
    expect(link).to_have_text(window.words["reconnecting"])
    expect(link).to_contain_text(window.words["stale"], timeout=25_000)
    window.shoot("stale")
    city.raise_new()
    page.unroute("**/v1/stream*")
    expect(link).to_have_text(window.words["live"], timeout=25_000)
    expect(page.locator(".row").filter(has_text=city.fresh.id)).to_be_visible()


def test_a_service_that_receives_nothing_does_not_look_live(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    window = visit(serve(), "en")
    page, link = window.page, window.page.locator(".link")
    window.log_in(city.login_code())
    expect(link).to_have_text(window.words["live"])
    degraded = {"code": "store_down", "zh": "时序库无法写入", "en": "the telemetry store takes nothing"}
    city.health = {"state": "degraded", "reasons": [degraded]}
    expect(page.get_by_role("navigation").get_by_label("Ingest is degraded")).to_be_visible()
    expect(link).to_have_text(window.words["live"])
    down = {"code": "broker_unreachable", "zh": "无法连接 MQTT 服务器", "en": "no connection to the broker"}
    city.health = {"state": "down", "reasons": [down]}
    expect(link).to_have_text("Ingest is down")
    link.get_by_role("link").click()
    expect(page.locator(".verdict li")).to_have_text("No connection to the broker")
    window.shoot("down")
    city.health = {"state": "ok", "reasons": []}
    expect(link).to_have_text(window.words["live"])
    assert window.complaints == []


def test_five_thousand_alarms_are_a_list_of_a_few_rows(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    base = serve()
    city.flood(5000)
    window = visit(base)
    page = window.page
    window.log_in(city.login_code())
    expect(page.locator(".tile.low b")).to_have_text("5,000")
    rows = page.locator(".row")
    oldest = rows.filter(has_text="flood-4999")
    for _ in range(60):
        page.locator("main").evaluate("main => main.scrollTo(0, main.scrollHeight)")
        page.wait_for_timeout(50)
        if oldest.count():
            break
    expect(oldest).to_be_visible()
    assert rows.count() < 60

    # In the middle of the list, a new alarm does not move what one looks at.
    page.locator("main").evaluate("main => main.scrollTo(0, 20_000)")
    page.mouse.move(640, 400)
    page.wait_for_timeout(300)
    looked_at = page.evaluate("document.elementFromPoint(640, 400).closest('li').innerText.split('\\n')[1]")
    city.raise_new()
    expect(page.locator(".held button")).to_be_visible()
    page.mouse.move(640, 20)
    page.wait_for_timeout(400)
    assert page.evaluate("document.elementFromPoint(640, 400).closest('li').innerText.split('\\n')[1]") == looked_at
    assert window.complaints == []


def test_alarms_can_be_worked_with_the_keyboard_alone(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    window = visit(serve(), "en")
    page = window.page
    window.log_in(city.login_code())
    expect(page.locator(".link")).to_have_text(window.words["live"])
    page.locator(".row [data-focus]").first.focus()
    second = page.locator(".row").nth(1)
    page.keyboard.press("ArrowDown")
    expect(second.locator("a").first).to_be_focused()
    page.keyboard.press("a")
    expect(second.locator(".state")).to_have_text(window.words["acknowledged"])
    expect(second.locator("a").first).to_be_focused()
    title = second.locator("a").first.inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    page.go_back()
    expect(second).to_be_visible()
    assert window.complaints == []


@pytest.mark.parametrize(("language", "size"), [("zh", PHONE), ("en", DESK)], ids=["zh-phone", "en-desk"])
def test_alarms_of_one_cause_are_one_row_and_acknowledged_with_one_click(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit], language: str, size: dict[str, int]
) -> None:
    window = visit(serve(), language, size)
    page, words, points = window.page, window.words, city.starved
    assert len(points) > 2
    window.log_in(city.login_code())
    group = page.locator(".row").filter(has=page.locator("[aria-expanded]")).filter(has_text=words["supply_low"])
    expect(group).to_contain_text(words["points"](len(points)))
    members = page.locator(".row.member")
    expect(members).to_have_count(0)
    group.locator("[aria-expanded]").click()
    expect(members).to_have_count(len(points))
    for device in points:
        expect(members.filter(has_text=device.id)).to_contain_text(getattr(device, f"name_{language}"))
    group.scroll_into_view_if_needed()
    window.shoot("group")

    # One has changed before: each is asked for with its own version.
    members.filter(has_text=points[0].id).locator("button").click()
    expect(members.filter(has_text=points[0].id).locator(".state")).to_have_text(words["acknowledged"])
    group.get_by_role("button", name=words["all"](len(points) - 1)).click()
    expect(group.locator(".state.UNACK")).to_have_count(0)
    expect(group.locator(".state")).to_have_text(words["acknowledged"])
    assert city.acknowledged_by(points) == ["李娜"] * len(points)
    group.locator("[aria-expanded]").click()
    expect(members).to_have_count(0)
    assert window.complaints == []


def test_a_gateways_alarm_lists_the_devices_under_it(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    base = serve()
    window = visit(base)
    page = window.page
    window.log_in(city.login_code())
    page.goto(f"{base}/alarms/{city.gateway_alarm.id}")
    under = [device for device in city.city.devices if device.gateway == city.gateway_alarm.subject_id]
    listed = page.locator(".affected li")
    expect(listed).to_have_count(len(under))
    expect(listed.filter(has_text=under[-1].id)).to_contain_text(under[-1].name_zh)
    window.shoot("gateway")
    assert window.complaints == []


def test_a_viewer_may_look_and_nothing_else(
    city: ConsoleCity, serve: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    base = serve()
    window = visit(base, "en")
    page = window.page
    page.goto(f"{base}/alarms/{city.alarm_of(city.burst).id}")
    page.locator("#token").fill(city.token("viewer"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name=window.words["burst"])).to_be_visible()
    expect(page.get_by_text("may only read")).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    page.get_by_role("navigation").get_by_role("link").first.click()
    expect(page.locator(".row").first).to_be_visible()
    expect(page.locator("button[data-acknowledge]")).to_have_count(0)
