"""The pages in a real browser, all of it or the tests with a part of a name: by keyboard, on a phone, in the dark, for a screen reader,
with hostile text. Each test runs at three widths, in light and dark; `LOOK=390-dark` is one of them alone."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from playwright.sync_api import expect, sync_playwright

import browser_docs
import browser_health
import browser_replicas
import browser_try
from browser_health import from_url
from browser_tools import HOSTILE, LOOK, LOOKS, SCHEMES, SOON_MS, assert_sound, press_until, tab
from daemon import Daemon, Redis

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]

def an_event_is_posted_by_keyboard_and_the_counters_move(browser, daemon):
    with tab(browser, daemon.url) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        cell = page.locator("#counts tr", has_text="SET").first.locator("td").first
        before = int(cell.inner_text())
        press_until(page, "Tab", "#kind")
        page.keyboard.type("Store a t")
        for field, text in [("#key", "from-the-page"), ("#value", "a <b>value</b>"), ("#ttl", "60"), ("#id", HOSTILE)]:
            press_until(page, "Tab", field)
            page.keyboard.type(text)
        press_until(page, "Tab", "#send")
        page.keyboard.press("Enter")
        expect(page.locator("#answer-state")).to_have_text("answered 200: ok")
        expect(page.locator("#answer")).to_contain_text('"source": "inline"')
        expect(page.locator("#answer")).to_contain_text("<img src=x")
        expect(cell).to_have_text(str(before + 1))
        page.locator("#kind").select_option("JSON")
        expect(page.locator("#key")).to_be_hidden()
        page.locator("#json").fill('[{"key":"SET","version":7,"value":{"data":{"key":"from-json","value":1}}},{"key":"X"}]')
        page.locator("#send").click()
        expect(page.locator("#answer-state")).to_have_text("answered 207: rejected")
        expect(page.locator("#answer")).to_contain_text('"from-json"')
        assert page.evaluate("window.hacked") is None
        assert_sound(page)


def hostile_text_is_shown_and_not_interpreted(browser, daemon):
    with tab(browser, daemon.url) as page:
        assert daemon.post({"key": "GET", "id": HOSTILE, "value": {"data": {HOSTILE: 1}}}) == 422
        row = page.locator("#failures tr", has_text=HOSTILE)
        expect(row).to_contain_text("invalid-event")
        row.get_by_text("More").click()
        expect(row.locator("dd").nth(1)).to_have_text(HOSTILE)
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("window.hacked") is None
        assert_sound(page)


def the_charts_are_drawn_and_told_in_words(browser, daemon):
    with tab(browser, daemon.url) as page:
        expect(page.locator("#chart-outcomes polyline").first).to_be_attached()
        for chart in page.locator(".plot").all():
            told = chart.evaluate("plot => document.getElementById(plot.getAttribute('aria-describedby')).innerText")
            assert "now" in told or "none" in told, told
        for line in ("s0", "s1", "s2"):
            dashes = page.locator(f"#chart-outcomes .legend .{line}").evaluate("l => getComputedStyle(l).strokeDasharray")
            assert (dashes == "none") == (line == "s0"), "the lines differ by colour alone"


def nothing_is_clipped_and_axe_finds_nothing(browser, daemon):
    for path in ("/", "/docs"):
        grounds = set()
        for scheme in SCHEMES:
            with tab(browser, daemon.url + path, scheme=scheme) as page:
                expect(page.locator("#state")).not_to_contain_text("ing…")
                page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                if LOOK.endswith(scheme):
                    assert_sound(page)
                grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2, f"{path} looks the same in the dark: {grounds}"


def pausing_stops_the_asking(browser, daemon):
    with tab(browser, daemon.url) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        page.wait_for_event("request")
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        press_until(page, "Tab", "#pause")
        page.keyboard.press("Enter")
        expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
        paused = len(asked)
        # Longer than it waits between two looks; there is nothing to wait for that does not happen.
        page.wait_for_timeout(3000)
        assert len(asked) == paused, asked
        with page.expect_request("**/status.json*"):
            page.keyboard.press("Enter")


def a_service_that_goes_away_is_told(browser):
    with Daemon() as daemon, tab(browser, daemon.url, quiet=False) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        daemon.process.terminate()
        expect(page.locator("#state")).to_contain_text("no answer from the service")
        # What is shown below is old, and says so.
        expect(page.locator("#verdict")).to_have_text(re.compile(r"^✗ This replica does not answer\. What is shown is from \d\d:\d\d:\d\d\.$"))
        assert_sound(page)


def a_token_opens_the_door_for_this_tab(browser):
    with Daemon(AUTH_TOKENS="right") as daemon:
        with tab(browser, daemon.url, quiet=False) as page:
            expect(page.locator("#token")).to_be_focused()
            expect(page.locator("#all")).to_be_hidden()
            for token, outcome in (("wrong", "that token is not accepted"), ("right", "✓ ready")):
                page.keyboard.type(token)
                page.keyboard.press("Enter")
                expect(page.locator("#state")).to_have_text(outcome)
            assert page.evaluate("JSON.stringify(localStorage) + document.cookie + location") == "{}" + daemon.url + "/"
            page.locator("#key").fill("k")
            page.locator("#send").click()
            expect(page.locator("#answer-state")).to_have_text("answered 200: ok")
            page.reload()
            expect(page.locator("#state")).to_have_text("✓ ready")
        with tab(browser, daemon.url, quiet=False) as page:
            expect(page.locator("#token")).to_be_visible()
            assert_sound(page)


def what_a_token_may_not_see_is_told(browser):
    tokens = "ingest:ingest-0123456789abcdef write,shop:shop-0123456789abcdef prefix=shop:"
    with Daemon(AUTH_TOKENS=tokens) as daemon, tab(browser, daemon.url, quiet=False) as page:
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("ingest-0123456789abcdef")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("that token may not read the state")
        expect(page.locator("#all")).to_be_hidden()
        page.keyboard.type("shop-0123456789abcdef")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("✓ ready")
        expect(page.locator("#no-failures")).to_have_text("This token sees some keys only, so failures are not listed.")


def a_token_that_may_only_read_is_offered_no_change(browser):
    with Redis() as redis:
        tokens = "viewer:viewer-0123456789abcdef read,right"
        hosts = {"FETCH_ALLOWED_HOSTS": "127.0.0.1:9", "FETCH_ATTEMPTS": "1"}
        with Daemon(CACHE_BACKEND="redis", REDIS_PORT=str(redis.port), AUTH_TOKENS=tokens, **hosts) as daemon:
            # A dead letter, from a host that is not allowed; and a failure that others may repeat, from one that does not answer.
            assert daemon.post(from_url("dead", "http://127.0.0.1:8/b"), "right", prefer="respond-async") == 202
            assert daemon.post(from_url("flaky", "http://127.0.0.1:9/b", 7), "right") == 503
            assert daemon.post({"key": "SET", "value": {"data": {"key": "k", "value": "v"}}}, "right") == 200
            for token, may_write in (("viewer-0123456789abcdef", False), ("right", True)):
                with tab(browser, daemon.url, quiet=False) as page:
                    expect(page.locator("#token")).to_be_focused()
                    page.keyboard.type(token)
                    page.keyboard.press("Enter")
                    expect(page.locator("#letters-state")).to_contain_text("listed")
                    expect(page.locator("#letters tr")).to_have_count(1)
                    expect(page.locator("#letters button")).to_have_count(3 if may_write else 1)
                    expect(page.locator("#failures button")).to_have_count(1 if may_write else 0)
                    for button in ("#letters-replay", "#letters-drop"):
                        expect(page.locator(button)).to_be_enabled(enabled=may_write)
                    offered = page.locator("#kind option:not([disabled])").evaluate_all("all => all.map(({ value }) => value)")
                    assert offered == (["GET", "URL", "SET", "DELETE", "PATTERN", "JSON"] if may_write else ["GET", "PATTERN", "JSON"]), offered
                    page.locator("#kind").select_option("PATTERN")
                    page.locator("#key").fill("k*")
                    page.locator("#send").click()
                    expect(page.locator("#answer")).to_contain_text('"matched": 1')
                    expect(page.locator("#second-look")).to_be_visible(visible=may_write)
                    expect(page.locator("#only-reads")).to_be_visible(visible=not may_write)
                    assert_sound(page)


def dead_letters_are_listed_shown_run_again_and_dropped(browser):
    with Redis() as redis, Daemon(CACHE_BACKEND="redis", REDIS_PORT=str(redis.port), AUTH_TOKENS="right") as daemon:
        # Loopback is no host for blobs unless it is allowed.
        for key in (HOSTILE, "other"):
            event = {"key": "SET", "value": {"data": {"key": key, "url": "http://127.0.0.1:9/b?sig=secret"}}}
            assert daemon.post(event, "right", prefer="respond-async") == 202
        with tab(browser, daemon.url, quiet=False) as page:
            expect(page.locator("#token")).to_be_focused()
            page.keyboard.type("right")
            page.keyboard.press("Enter")
            expect(page.locator("#journal")).to_contain_text("this replica")
            expect(page.locator("#journal dd").last).to_have_text("2")
            # Without being asked.
            expect(page.locator("#letters-state")).to_contain_text("listed")
            page.locator("#letters-filter button[type=submit]").click()
            expect(page.locator("#letters-state")).to_have_text("2 listed")
            page.locator("#letters-key").fill("<img*")
            page.keyboard.press("Enter")
            expect(page.locator("#letters-state")).to_have_text("1 listed")
            row = page.locator("#letters tr")
            expect(row).to_contain_text("blob-forbidden")
            expect(row).to_contain_text(HOSTILE)
            row.get_by_text("Show").click()
            expect(page.locator("#letter")).to_contain_text("http://127.0.0.1:9/b?…")
            assert "secret" not in page.content()
            assert_sound(page)
            row.get_by_text("Replay").click()
            expect(page.locator("#letters-state")).to_contain_text("put back into the journal")
            page.locator("#letters-key").fill("")
            page.locator("#letters-age").fill("soon")
            page.keyboard.press("Enter")
            expect(page.locator("#letters-state")).to_contain_text("age is a number and")
            page.locator("#letters-age").fill("")
            page.locator("#letters-problem").fill("blob-forbidden")
            page.on("dialog", lambda dialog: dialog.accept())
            # What was run again has died again by now, or will in a moment.
            expect(page.locator("#journal dd").last).to_have_text("2")
            page.keyboard.press("Enter")
            expect(page.locator("#letters-state")).to_have_text("2 listed")
            page.locator("#letters-drop").click()
            expect(page.locator("#letters-state")).to_have_text("2 dropped")
            expect(page.locator("#letters-table")).to_be_hidden()
            assert page.evaluate("window.hacked") is None


def the_port_for_operating_has_no_form(browser):
    with Daemon(ADMIN_PORT="0") as daemon, tab(browser, daemon.admin_url) as page:
        expect(page.locator("#elsewhere")).to_be_visible()
        expect(page.locator("#post")).to_be_hidden()


ON_ONE_DAEMON = [
    an_event_is_posted_by_keyboard_and_the_counters_move,
    hostile_text_is_shown_and_not_interpreted,
    the_charts_are_drawn_and_told_in_words,
    nothing_is_clipped_and_axe_finds_nothing,
    pausing_stops_the_asking,
    *browser_docs.ON_ONE_DAEMON,
    *browser_try.ON_ONE_DAEMON,
]
ALONE = [
    a_service_that_goes_away_is_told,
    a_token_opens_the_door_for_this_tab,
    what_a_token_may_not_see_is_told,
    a_token_that_may_only_read_is_offered_no_change,
    dead_letters_are_listed_shown_run_again_and_dropped,
    the_port_for_operating_has_no_form,
    *browser_health.ALONE,
    *browser_replicas.ALONE,
    *browser_try.ALONE,
]


def at_every_look():
    """As many at once as there are processors: much of a test is waiting."""
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
    run = lambda look: subprocess.run(command, env={**os.environ, "LOOK": look}, stdout=subprocess.PIPE, text=True)
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as at_once:
        for look, done in zip(LOOKS, at_once.map(run, LOOKS)):
            print(f"{look}\n{done.stdout}", flush=True)
            failed += [look] if done.returncode else []
    print(f"failed at {', '.join(failed)}" if failed else f"passed at {', '.join(LOOKS)}")
    return len(failed)


def main():
    expect.set_options(timeout=SOON_MS)
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if not found:
        sys.exit(f"no browser: none of {', '.join(BROWSERS)} is installed")
    failed = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        with Daemon() as daemon:
            tests = [(test, (browser, daemon)) for test in ON_ONE_DAEMON] + [(test, (browser,)) for test in ALONE]
            tests = [test for test in tests if not sys.argv[1:] or any(part in test[0].__name__ for part in sys.argv[1:])]
            for test, given in tests:
                try:
                    test(*given)
                    print(f"test {test.__name__} ... ok", flush=True)
                except Exception as error:
                    failed += 1
                    print(f"test {test.__name__} ... FAILED\n{error}", flush=True)
        browser.close()
    print(f"{len(tests) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(min(main() if "LOOK" in os.environ else at_every_look(), 1))
