"""The pages in a real browser: by keyboard, on a phone, in the dark, for a screen reader, with hostile text."""

import shutil
import sys
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from daemon import Daemon, Redis

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# Longer than two steps of the history.
SOON_MS = 20_000


@contextmanager
def tab(browser, url, size=DESK, scheme="light", quiet=True):
    """A page in a session of its own. Ends with an error if its console told of one."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(SOON_MS)
    told = []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.goto(url)
    yield page
    context.close()
    assert not (quiet and told), told


def press_until(page, key, selector):
    """By keyboard alone; that what has the focus shows it."""
    for _ in range(60):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"{selector} does not show that it has the focus"
            return
        page.keyboard.press(key)
    raise AssertionError(f"{selector} cannot be reached by {key}")


def an_event_is_posted_by_keyboard_and_the_counters_move(browser, daemon):
    with tab(browser, daemon.url) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        cell = page.locator("#counts tr", has_text="SET").first.locator("td").first
        before = int(cell.inner_text())
        press_until(page, "Tab", "#kind")
        page.keyboard.type("SET")
        for field, text in [("#key", "from-the-page"), ("#value", "a <b>value</b>"), ("#ttl", "60"), ("#id", HOSTILE)]:
            press_until(page, "Tab", field)
            page.keyboard.type(text)
        press_until(page, "Tab", "#post button")
        page.keyboard.press("Enter")
        expect(page.locator("#answer-state")).to_have_text("answered 200: ok")
        expect(page.locator("#answer")).to_contain_text('"source": "inline"')
        expect(page.locator("#answer")).to_contain_text("<img src=x")
        expect(cell).to_have_text(str(before + 1))
        page.locator("#kind").select_option("PREVIEW")
        page.locator("#key").fill("from-*")
        page.keyboard.press("Enter")
        expect(page.locator("#answer")).to_contain_text('"status": "preview"')
        page.locator("#kind").select_option("JSON")
        expect(page.locator("#key")).to_be_hidden()
        page.locator("#json").fill('[{"key":"SET","version":7,"value":{"data":{"key":"from-json","value":1}}},{"key":"X"}]')
        page.locator("#post button").click()
        expect(page.locator("#answer-state")).to_have_text("answered 207: rejected")
        expect(page.locator("#answer")).to_contain_text('"from-json"')
        assert page.evaluate("window.hacked") is None


def hostile_text_is_shown_and_not_interpreted(browser, daemon):
    with tab(browser, daemon.url) as page:
        assert daemon.post({"key": "GET", "id": HOSTILE, "value": {"data": {HOSTILE: 1}}}) == 422
        row = page.locator("#failures tr").first
        expect(row).to_contain_text("invalid-event")
        expect(row.locator("td").nth(2)).to_have_text(HOSTILE)
        assert page.locator("main img, main script").count() == 0
        assert page.evaluate("window.hacked") is None


def the_charts_are_drawn_and_told_in_words(browser, daemon):
    with tab(browser, daemon.url) as page:
        expect(page.locator("#chart-outcomes polyline").first).to_be_attached()
        for chart in page.locator("svg.chart").all():
            told = chart.evaluate("svg => document.getElementById(svg.getAttribute('aria-describedby')).innerText")
            assert "now" in told or "none" in told, told
        for line in ("s0", "s1", "s2"):
            dashes = page.locator(f"#chart-outcomes .legend .{line}").evaluate("l => getComputedStyle(l).strokeDasharray")
            assert (dashes == "none") == (line == "s0"), "the lines differ by colour alone"


def it_fits_a_phone_in_both_schemes_and_has_no_fault_that_axe_knows(browser, daemon):
    for path in ("/", "/docs"):
        grounds = set()
        for scheme in ("light", "dark"):
            for size in (PHONE, DESK):
                with tab(browser, daemon.url + path, size, scheme) as page:
                    expect(page.locator("#state")).not_to_contain_text("ing…")
                    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    assert wide <= 0, f"{path} is {wide} pixels too wide for {size['width']}"
                    grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
                    results = Axe().run(page)
                    assert results.violations_count == 0, results.generate_report()
        assert len(grounds) == 2, f"{path} looks the same in the dark: {grounds}"


def the_documentation_shows_every_route_and_leads_to_its_shapes(browser, daemon):
    document = daemon.get("/openapi.json")
    with tab(browser, daemon.url + "/docs") as page:
        expect(page.locator("#routes h2")).to_have_count(sum(len(path.keys() - {"parameters"}) for path in document["paths"].values()))
        for path in document["paths"]:
            expect(page.locator("#routes h2 code", has_text=path).first).to_be_visible()
        missing = page.evaluate("[...document.links].map(a => a.hash.slice(1)).filter(id => id && !document.getElementById(id))")
        assert not missing, missing


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
        with page.expect_request("**/status.json"):
            page.keyboard.press("Enter")


def a_service_that_goes_away_is_told(browser):
    with Daemon() as daemon, tab(browser, daemon.url, quiet=False) as page:
        expect(page.locator("#state")).to_have_text("✓ ready")
        daemon.process.terminate()
        expect(page.locator("#state")).to_contain_text("no answer from the service")


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
            page.locator("#post button").click()
            expect(page.locator("#answer-state")).to_have_text("answered 200: ok")
            page.reload()
            expect(page.locator("#state")).to_have_text("✓ ready")
        with tab(browser, daemon.url, quiet=False) as page:
            expect(page.locator("#token")).to_be_visible()
            assert Axe().run(page).violations_count == 0


def dead_letters_are_listed_shown_run_again_and_dropped(browser):
    with Redis() as redis, Daemon(CACHE_BACKEND="redis", REDIS_PORT=str(redis.port), AUTH_TOKENS="right") as daemon:
        # Loopback is no host for blobs unless it is allowed.
        for key in (HOSTILE, "other"):
            event = {"key": "SET", "value": {"data": {"key": key, "url": "http://127.0.0.1:9/b?sig=secret"}}}
            assert daemon.post(event, "right", prefer="respond-async") == 202
        with tab(browser, daemon.url, quiet=False) as page:
            page.keyboard.type("right")
            page.keyboard.press("Enter")
            expect(page.locator("#journal")).to_contain_text("this replica")
            expect(page.locator("#journal dd").last).to_have_text("2")
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
            assert Axe().run(page).violations_count == 0, Axe().run(page).generate_report()
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
    it_fits_a_phone_in_both_schemes_and_has_no_fault_that_axe_knows,
    the_documentation_shows_every_route_and_leads_to_its_shapes,
    pausing_stops_the_asking,
]
ALONE = [
    a_service_that_goes_away_is_told,
    a_token_opens_the_door_for_this_tab,
    dead_letters_are_listed_shown_run_again_and_dropped,
    the_port_for_operating_has_no_form,
]


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
    sys.exit(min(main(), 1))
