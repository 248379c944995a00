// What other sites and other tabs try on somebody who is signed in, in Chromium: another site
// (evil.test), and a sibling domain (evil.example.test) of the gateway's (app.example.test).
//
// Usage: node attack.mjs PORT CERT KEY USER PASSWORD OTHER OTHER-PASSWORD [ATTACK...]
// OTHER is whom the attacker has an account of. Prints `ok STEP` for every step; ends with 1, a reason
// and a screenshot's path on failure.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.PORTCULLIS_TEST_NODE_MODULES, "."));
const { chromium } = require("playwright-core");

const [port, cert, key, user, password, other, otherPassword, ...only] = process.argv.slice(2);
const APP = `https://app.example.test:${port}`;
const COOKIE = "__Host-portcullis";
const PATIENCE = 20_000;

/** Pages of the attacker by path; any host. */
const pages = new Map([["/elsewhere", ""]]);
/** What came to the attacker, beyond those pages. */
const stolen = [];
const evil = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (asked, answer) => {
  const page = pages.get(asked.url);
  if (page === undefined && asked.url !== "/favicon.ico") stolen.push(asked.url);
  answer.writeHead(page === undefined ? 404 : 200, { "content-type": "text/html; charset=utf-8" });
  answer.end(page ?? "");
});
await new Promise((done) => evil.listen(0, "127.0.0.1", done));
const SITES = [
  `https://evil.test:${evil.address().port}`,
  `https://evil.example.test:${evil.address().port}`,
];

const browser = await chromium.launch({
  executablePath: process.env.PORTCULLIS_TEST_CHROMIUM,
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
  ],
});

let page;
/** Scripts that ran though none of ours may have: dialogs that hostile text would open. */
const ran = [];

async function visitor() {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(PATIENCE);
  context.on("page", (opened) => {
    opened.on("dialog", (dialog) => {
      ran.push(`${dialog.message()} at ${opened.url()}`);
      void dialog.dismiss();
    });
  });
  return context;
}

async function tab(context) {
  page = await context.newPage();
  return page;
}

/** The one tab of a visitor in which one address after the other is looked at. */
const desks = new WeakMap();
async function desk(context) {
  if (!desks.has(context)) desks.set(context, await tab(context));
  return desks.get(context);
}

const bodyOf = (at) => at.locator("body").innerText();

function ok(step) {
  assert.deepEqual(ran, [], "hostile text ran as a script");
  console.log(`ok ${step}`);
}

/** Clicks and waits for the page that the click leads to. */
async function follow(at, locator) {
  await Promise.all([at.waitForEvent("framenavigated"), locator.click()]);
  await at.waitForLoadState("load");
}

async function signIn(at, name = user, secret = password, path = "/auth/login") {
  await at.goto(APP + path);
  await at.fill("input[name=username]", name);
  await at.fill("input[name=password]", secret);
  await follow(at, at.locator("form:has(input[name=password]) [type=submit]"));
}

async function token(context) {
  const found = (await context.cookies(APP)).filter((cookie) => cookie.name === COOKIE);
  assert.ok(found.length <= 1, JSON.stringify(found));
  return found[0]?.value;
}

/** What the gateway says at `path`, as somebody sees who types the address: status and text. */
async function ask(context, path) {
  const answer = await (await desk(context)).goto(APP + path);
  return [answer.status(), await answer.text()];
}

/** Whom the gateway knows this browser as, by its JSON; null for nobody. */
async function whoami(context) {
  const [status, text] = await ask(context, "/auth/session");
  if (status === 401) return null;
  assert.equal(status, 200, text);
  return text;
}

async function isStill(context, name, held) {
  assert.equal(await token(context), held, "another session");
  assert.match(await whoami(context), new RegExp(`u-${name}`));
}

/** A page of the attacker at `site`, opened until its script has set the title to `done`. */
async function lure(context, site, script) {
  const path = `/lure${pages.size}`;
  const close = "document.title = 'done';";
  pages.set(path, `<!doctype html><title>-</title><body><script type=module>${script};${close}</script>`);
  const at = await tab(context);
  await at.goto(site + path);
  return at;
}

/** Waits until the browser has this many cookies of such names for the app: scripts do not wait for them. All names. */
async function jarHas(context, wanted, count) {
  const end = Date.now() + 30_000;
  for (;;) {
    const names = (await context.cookies(`${APP}/x`)).map((cookie) => cookie.name);
    if (names.filter((name) => wanted.test(name)).length >= count) return names;
    assert.ok(Date.now() < end, `not planted: ${count} like ${wanted}, only ${names}`);
  }
}

/** A form that the page of the attacker sends by itself, in this tab. */
async function posted(context, site, path, fields, kind = "application/x-www-form-urlencoded") {
  const inputs = Object.entries(fields)
    .map(([name, value]) => `<input type=hidden name='${name}' value='${value}'>`)
    .join("");
  const lurePath = `/form${pages.size}`;
  pages.set(
    lurePath,
    `<!doctype html><form method=post enctype="${kind}" action="${APP}${path}">${inputs}<button>x</button></form>`,
  );
  const at = await desk(context);
  await at.goto(site + lurePath);
  const [answer] = await Promise.all([
    at.waitForResponse((response) => response.url().startsWith(APP + path)),
    follow(at, at.locator("button")),
  ]);
  return answer.status();
}

/** The attacker's own session, as their own browser holds it. */
async function attackersToken() {
  const context = await visitor();
  await signIn(await tab(context), other, otherPassword);
  const held = await token(context);
  assert.ok(held);
  await context.close();
  return held;
}

async function csrf() {
  const forms = [
    ["/auth/login", { username: other, password: otherPassword }],
    ["/auth/logout", {}],
    ["/auth/switch", { claim: "group/eng" }],
    ["/auth/sessions/end-others", {}],
    ["/auth/keys/create", { name: "x", expires: "90d" }],
  ];
  const json = JSON.stringify({ username: other, password: otherPassword });
  for (const site of SITES) {
    // Nobody gets a session by somebody else's page.
    let context = await visitor();
    assert.equal(await posted(context, site, ...forms[0]), 403);
    // JSON in a form's clothes: `{"username":...,"password":"...","x":"=y"}`.
    const disguised = { [json.replace(/}$/, ',"x":"')]: 'y"}' };
    assert.equal(await posted(context, site, "/auth/session", disguised, "text/plain"), 403);
    assert.equal(await token(context), undefined, `signed in by ${site}`);
    await context.close();

    context = await visitor();
    await signIn(await tab(context));
    const held = await token(context);
    for (const kind of ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]) {
      for (const form of forms) {
        assert.equal(await posted(context, site, ...form, kind), 403, `${site} ${form[0]} ${kind}`);
      }
      await isStill(context, user, held);
    }
    const script = forms
      .map(([path, fields]) => {
        const sent = `new URLSearchParams(${JSON.stringify(fields)})`;
        return `await fetch("${APP}${path}", {method: "POST", mode: "no-cors", credentials: "include", body: ${sent}}).catch(() => 0)`;
      })
      .concat([
        `await fetch("${APP}/auth/session", {method: "DELETE", credentials: "include"}).catch(() => 0)`,
        `navigator.sendBeacon("${APP}/auth/logout", new URLSearchParams())`,
        `const i = new Image(); i.src = "${APP}/auth/logout"; await new Promise((d) => { i.onload = i.onerror = d })`,
        `let read = ""; try { read = await (await fetch("${APP}/auth/session", {credentials: "include"})).text() } catch {}`,
        `if (read) location = "/stolen"`,
      ])
      .join(";");
    const at = await lure(context, site, script);
    await at.waitForFunction(() => document.title === "done");
    await isStill(context, user, held);
    // Looking at the page by which one leaves is not leaving.
    await at.goto(`${APP}/auth/logout`);
    await isStill(context, user, held);
    await context.close();
  }
  assert.deepEqual(stolen, []);
  ok("no site signs in or out or changes anything");
}

async function sockets() {
  const context = await visitor();
  await signIn(await tab(context), user, password, "/auth/login?next=%2Fapp");
  const open = (at) =>
    at.evaluate(
      (url) =>
        new Promise((done) => {
          const socket = new WebSocket(url);
          socket.onopen = () => socket.send("hello");
          socket.onmessage = (message) => done(message.data);
          socket.onerror = () => done("refused");
        }),
      `wss://app.example.test:${port}/ws`,
    );
  assert.match(await open(page), /^hello/, "the app's own page");
  for (const site of SITES) {
    const at = await lure(context, site, "");
    assert.equal(await open(at), "refused", site);
  }
  await context.close();
  ok("no site opens a socket");
}

async function frames() {
  const context = await visitor();
  await signIn(await tab(context));
  const own = ["/auth/login", "/auth/account", "/auth/logout", "/auth/nothing", "/auth/continue", "/nowhere", "/forbidden/"];
  for (const site of SITES) {
    for (const path of own) {
      const lurePath = `/frame${pages.size}`;
      pages.set(lurePath, `<!doctype html><iframe src="${APP}${path}"></iframe>`);
      const at = await desk(context);
      await at.goto(site + lurePath);
      const inner = at.frames().find((frame) => frame !== at.mainFrame());
      assert.ok(inner, `${path} has no frame`);
      // Chromium shows a page of its own in place of what may not be framed.
      const shown = await inner.locator("body").innerText().catch(() => "");
      assert.equal(inner.url().startsWith(APP), false, `${site} frames ${path}: ${shown}`);
    }
  }
  await context.close();
  ok("no site frames an own page");
}

async function tossing() {
  const planted = await attackersToken();
  const toss = [
    `${COOKIE}=${planted}; domain=example.test; path=/; secure`,
    `${COOKIE}=${planted}; domain=example.test; path=/x; secure`,
    `${COOKIE}=${planted}; path=/; secure`,
    `__host-portcullis=${planted}; domain=example.test; path=/; secure`,
    `__HOST-PORTCULLIS=${planted}; domain=example.test; path=/; secure`,
    `=${COOKIE}=${planted}; domain=example.test; path=/; secure`,
    `${COOKIE} =${planted}; domain=example.test; path=/; secure`,
    `portcullis=${planted}; domain=example.test; path=/; secure`,
    `a=1; domain=example.test; path=/; secure`,
    `b="; domain=example.test; path=/; secure`,
    `$Version=1; domain=example.test; path=/; secure`,
    `c="; ${COOKIE}=${planted}; domain=example.test; path=/; secure`,
    `d=x%3B%20${COOKIE}=${planted}; domain=example.test; path=/; secure`,
  ];
  const script = toss.map((line) => `document.cookie = ${JSON.stringify(line)}`).join(";");
  for (const signedIn of [true, false]) {
    const context = await visitor();
    if (signedIn) await signIn(await tab(context));
    const held = await token(context);
    await lure(context, SITES[1], script);
    const names = await jarHas(context, /^a$/, 1);
    const at = await tab(context);
    await at.goto(`${APP}/x`);
    const shown = await bodyOf(at);
    assert.doesNotMatch(shown, new RegExp(`u-${other}`), `as the attacker: ${names}`);
    if (signedIn) {
      await isStill(context, user, held);
      assert.match(shown, new RegExp(`u-${user}`));
    } else {
      assert.match(at.url(), /\/auth\/login/);
      // Signing in still works, and makes the one who does it known.
      await signIn(at);
      await at.goto(`${APP}/x`);
      assert.match(await bodyOf(at), new RegExp(`u-${user}`));
    }
    await context.close();
  }
  ok("a sibling's cookies change nobody");

  // More cookies than fit: a page that says so and clears them, never a loop and never theirs.
  for (const [count, length] of [
    [130, 3],
    [10, 4000],
    [170, 4000],
  ]) {
    const context = await visitor();
    await signIn(await tab(context));
    await lure(
      context,
      SITES[1],
      `for (let i = 0; i < ${count}; i += 1) document.cookie = "bomb" + i + "=" + "x".repeat(${length}) + "; domain=example.test; path=/; secure"`,
    );
    await jarHas(context, /^bomb/, count);
    const at = await tab(context);
    let hops = 0;
    at.on("request", (asked) => {
      hops += Number(asked.isNavigationRequest());
    });
    const answer = await at.goto(`${APP}/x`).catch((error) => error);
    assert.ok(hops < 3, `${hops} requests`);
    if (answer instanceof Error) {
      // So large that HTTP/2 itself gives up.
      assert.equal(count * length > 64 << 10, true, String(answer));
    } else {
      assert.equal(answer.status(), 431);
      assert.match(await bodyOf(at), /sign in again/i);
      assert.deepEqual(await context.cookies(APP), []);
      await signIn(at, user, password, "/auth/login?next=%2Fx");
      assert.match(await bodyOf(at), new RegExp(`u-${user}`));
    }
    await context.close();
  }
  ok("a cookie bomb is no loop");
}

async function redirects() {
  const host = SITES[0].slice("https://".length);
  const targets = [
    `//${host}/`,
    `///${host}/`,
    `/\\${host}/`,
    `\\\\${host}/`,
    `/\t/${host}/`,
    `/\n/${host}/`,
    `\t//${host}/`,
    `https:${host}`,
    `https:/${host}`,
    `https://${host}/`,
    `${APP}@${host}/`,
    `https://app.example.test:${port}@${host}/`,
    `javascript:alert(1)`,
    `data:text/html,<script>alert(1)</script>`,
    `/%2f/${host}/`,
    `/%5c${host}/`,
    `/%09/${host}/`,
    `/.//${host}/`,
    `/..//${host}/`,
    `/\u{ff0f}${host}/`,
    `\u{ff0f}\u{ff0f}${host}/`,
    `/\u{2028}/${host}/`,
    `/@${host}/`,
    `/x#//${host}`,
    `/auth/login?next=//${host}/`,
    `/auth/continue?next=//${host}/`,
  ];
  const context = await visitor();
  for (const [place, target] of targets.entries()) {
    const once = encodeURIComponent(target);
    // Each decoding is one too many for some: twice coded, too, now and then.
    for (const coded of place % 4 === 0 ? [once, encodeURIComponent(once)] : [once]) {
      await context.clearCookies();
      const at = await desk(context);
      await signIn(at, user, password, `/auth/login?next=${coded}`);
      assert.ok(at.url().startsWith(`${APP}/`), `${JSON.stringify(target)} led to ${at.url()}`);
      assert.ok(await token(context), `${target}: not signed in`);
      // Again as somebody who is signed in already: the page offers to go on.
      await at.goto(`${APP}/auth/login?next=${coded}`);
      for (const href of await at.locator("a").evaluateAll((links) => links.map((link) => link.href))) {
        assert.ok(href.startsWith(`${APP}/`), `${JSON.stringify(target)} links to ${href}`);
      }
    }
  }
  assert.deepEqual(stolen, []);
  await context.close();
  ok("no sign-in leads away");
}

async function reflection() {
  const marks = [
    `"><img src=x onerror=alert(1)>`,
    `'><svg onload=alert(1)>`,
    `</script><script>alert(1)</script>`,
    `{{7*7}}\${alert(1)}<!--`,
    `javascript:alert(1)`,
  ];
  const context = await visitor();
  for (const signedIn of [false, true]) {
    if (signedIn) await signIn(await tab(context));
    const at = await tab(context);
    for (const mark of marks) {
      const coded = encodeURIComponent(mark);
      for (const path of [
        `/auth/login?next=${coded}`,
        `/auth/login?next=/${coded}`,
        `/auth/login?username=${coded}&notice=${coded}&reason=${coded}`,
        `/auth/logout?next=${coded}`,
        `/auth/logged-out?next=${coded}&notice=${coded}`,
        `/auth/account?notice=${coded}`,
        `/auth/continue?next=/${coded}`,
        `/auth/${coded}`,
        `/auth/sessions/${coded}`,
        `/auth/static/${coded}`,
        `/forbidden/${coded}?${coded}`,
        `/x/${coded}?q=${coded}#${coded}`,
      ]) {
        await at.goto(APP + path).catch(() => null);
        // What was given as text is there as text, or not at all.
        const found = await at.evaluate(
          () => document.querySelectorAll("img[src=x], svg[onload], script:not([src])").length,
        );
        assert.equal(found, 0, `${path} became markup at ${at.url()}`);
        const links = await at.locator("a, form").evaluateAll((all) =>
          all.map((one) => one.getAttribute("href") ?? one.getAttribute("action") ?? ""),
        );
        assert.ok(!links.some((link) => /^\s*(javascript|data):/i.test(link)), `${path}: ${links}`);
      }
      // A name that nobody has comes back with the page that says so.
      if (!signedIn) {
        await signIn(at, mark, "wrong");
        assert.equal(await at.inputValue("input[name=username]"), mark);
        assert.equal(await at.locator("img[src=x], svg[onload]").count(), 0, mark);
      }
    }
  }
  await context.close();
  ok("nothing is reflected as markup");
}

async function memory() {
  const context = await visitor();
  const first = await tab(context);
  await signIn(first, user, password, "/auth/login?next=%2Fapp%3Fsecret");
  assert.match(await bodyOf(first), new RegExp(`u-${user}`));
  await first.goto(`${APP}/auth/account`);
  const second = await tab(context);
  await second.goto(`${APP}/auth/logout`);
  await follow(second, second.locator("form[action*=logout] button"));
  // By what the browser keeps of pages.
  for (const leave of [() => first.goto(`${SITES[0]}/elsewhere`), () => first.goBack()]) {
    await leave().catch(() => null);
    await first.goBack().catch(() => null);
    await first.waitForLoadState("load");
    assert.doesNotMatch(await bodyOf(first), new RegExp(`u-${user}|${user}@`), first.url());
  }
  await context.close();
  ok("nothing is left after a logout");
}

async function tabs() {
  const context = await visitor();
  await signIn(await tab(context));
  // What each of these shows is the first user's to send.
  const forms = [
    "form[action$='/keys/create'] button",
    "form:has([name=claim]) button",
    "form[action$='/sessions/end-others'] button",
  ];
  // A second session, so that there is another one to end.
  const elsewhere = await visitor();
  await signIn(await tab(elsewhere));
  const left = [];
  for (const button of forms) {
    const at = await tab(context);
    await at.goto(`${APP}/auth/account`);
    await at.waitForSelector(button);
    left.push(at);
  }
  const app = await tab(context);
  await app.goto(`${APP}/app`);
  // Meanwhile that one leaves, and somebody else signs in at the same browser.
  const second = await tab(context);
  await second.goto(`${APP}/auth/logout`);
  await follow(second, second.locator("form[action*=logout] button"));
  const sent = () => fetch("/app", { method: "POST", body: "a=1" }).then((answer) => answer.status);
  assert.equal(await app.evaluate(sent), 401, "a form of somebody who has left");
  await signIn(second, other, otherPassword);
  const held = await token(context);
  for (const [place, button] of forms.entries()) {
    const at = left[place];
    page = at;
    await at.bringToFront();
    await follow(at, at.locator(button).first());
    assert.match(await bodyOf(at), /signed in as somebody else/i, button);
    await isStill(context, other, held);
  }
  await isStill(elsewhere, user, await token(elsewhere));
  const [status, keys] = await ask(context, "/auth/keys");
  assert.equal(status, 200, keys);
  assert.doesNotMatch(keys, /"id"/, "a key was made for somebody who did not ask");
  await elsewhere.close();
  await context.close();
  ok("a form is its user's own");
}

try {
  for (const attack of [csrf, sockets, frames, tossing, redirects, reflection, memory, tabs]) {
    if (only.length === 0 || only.includes(attack.name)) await attack();
  }
  assert.deepEqual(stolen, []);
} catch (error) {
  const shot = join(process.env.PORTCULLIS_TEST_ARTIFACTS, "attack.png");
  await page?.screenshot({ path: shot, fullPage: true }).catch(() => {});
  console.error(error);
  console.error(`at ${page?.url()}\n${await bodyOf(page).catch(() => "")}`);
  console.error(`screenshot: ${shot}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  evil.close();
  evil.closeAllConnections();
}
