// A person's way through the gateway in Chromium: bounced to the login, wrong and right password,
// back at the full address, second tab, another claim, out, and the back button shows nothing.
//
// Usage: node flow.mjs ORIGIN USER PASSWORD CLAIM
// Prints `ok STEP` for every step; ends with 1, a reason and a screenshot's path on failure.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.PORTCULLIS_TEST_NODE_MODULES, "."));
const { chromium } = require("playwright-core");

const [origin, user, password, claim] = process.argv.slice(2);
const TARGET = "/deep/page?x=1&y=a%20b#part/2?z=3";
const PATIENCE = 20_000;

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
  ],
});

let page;

async function open(context) {
  page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  // Whatever our pages do, they need no inline script, no foreign host and cause no CSP report.
  page.on("console", (message) => {
    if (message.type() === "error" && /Content.Security.Policy/i.test(message.text())) {
      problems.push(message.text());
    }
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) {
      problems.push(`request to ${request.url()}`);
    }
  });
  return page;
}

const problems = [];
const text = () => page.locator("body").innerText();
const path = () => page.url().slice(origin.length);

function ok(step) {
  assert.deepEqual(problems, []);
  console.log(`ok ${step}`);
}

/** Clicks and waits for the page that the click leads to. */
async function follow(locator) {
  await Promise.all([page.waitForEvent("framenavigated"), locator.click()]);
  await page.waitForLoadState("load");
}

async function logIn(secret) {
  await page.fill("input[name=username]", user);
  await page.fill("input[name=password]", secret);
  await follow(page.locator("form:has(input[name=password]) [type=submit]"));
}

async function flow() {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });

  await open(context);
  await page.goto(origin + TARGET);
  await page.waitForSelector("input[name=password]");
  assert.match(path(), /^\/auth\/login/);
  assert.equal(await page.getAttribute("input[name=password]", "type"), "password");
  ok("login page");

  await logIn("not the password");
  await page.waitForSelector("input[name=password]");
  assert.match(path(), /^\/auth\/login/);
  const alert = page.locator("[role=alert]");
  await alert.waitFor();
  assert.notEqual((await alert.innerText()).trim(), "");
  assert.equal(await page.inputValue("input[name=password]"), "");
  ok("wrong password");

  await logIn(password);
  await page.waitForURL(origin + TARGET);
  assert.match(await text(), new RegExp(`user/u-${user}`));
  ok("landed");

  const [cookie] = (await context.cookies()).filter((c) => c.name === "__Host-portcullis");
  assert.ok(cookie.secure && cookie.httpOnly, JSON.stringify(cookie));
  assert.equal(cookie.sameSite, "Lax");
  assert.equal(await page.evaluate(() => document.cookie), "");

  const first = page;
  await open(context);
  await page.goto(`${origin}/other`);
  assert.equal(path(), "/other");
  assert.match(await text(), new RegExp(`user/u-${user}`));
  ok("second tab");

  await page.goto(`${origin}/auth/account`);
  await follow(page.locator(`form:has([name=claim][value="${claim}"]) button`));
  await page.goto(`${origin}/other`);
  assert.match(await text(), new RegExp(claim));
  await first.bringToFront();
  await first.reload();
  assert.match(await first.locator("body").innerText(), new RegExp(claim));
  ok("claim switched");

  await page.bringToFront();
  await page.goto(`${origin}/auth/account`);
  await page.goto(`${origin}/auth/logout`);
  // Looking at the page is not leaving.
  await first.reload();
  assert.match(await first.locator("body").innerText(), new RegExp(claim));
  await follow(page.locator("form[action*=logout] button"));
  const left = (await context.cookies()).filter((c) => c.name === "__Host-portcullis");
  assert.deepEqual(left, []);
  ok("logged out");

  for (let step = 0; step < 3; step += 1) {
    await page.goBack({ timeout: PATIENCE }).catch(() => null);
    await page.waitForLoadState("load");
    assert.doesNotMatch(await text(), new RegExp(`u-${user}|${user}@|${claim}`), page.url());
  }
  await first.reload();
  assert.match(first.url(), /\/auth\/login/);
  ok("back button");
}

try {
  await flow();
} catch (error) {
  const shot = join(process.env.PORTCULLIS_TEST_ARTIFACTS, "flow.png");
  await page?.screenshot({ path: shot, fullPage: true }).catch(() => {});
  console.error(error);
  console.error(`at ${page?.url()}\n${await text().catch(() => "")}`);
  console.error(`screenshot: ${shot}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
