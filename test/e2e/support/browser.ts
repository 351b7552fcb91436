import { mkdirSync } from "node:fs";
import { join } from "node:path";
import axe from "axe-core";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

const pictures = join(__dirname, "..", "pictures");

export async function launch(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM;
  if (!executablePath)
    throw new Error("CHROMIUM is not set: run the tests by script/test, which provides it");
  mkdirSync(pictures, { recursive: true });
  // As root, Chromium has no sandbox of its own.
  return chromium.launch({ executablePath, chromiumSandbox: false });
}

/** A page that notes whatever is wrong with it: what the console says, failed and foreign requests. */
export async function watchedPage(
  browser: Browser,
  { withAxe = false, ...options }: BrowserContextOptions & { withAxe?: boolean } = {},
) {
  const context = await browser.newContext(options);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  page.setDefaultTimeout(90_000);
  // From outside, as the page's policy lets nothing in.
  if (withAxe) await page.addInitScript(axe.source);
  const wrong: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => {
    if (new URL(request.url()).hostname !== "127.0.0.1") wrong.push(`asked ${request.url()}`);
  });
  return { page, wrong };
}

/** What axe finds that keeps somebody out. @param rules some of axe's; without them, all */
export async function accessibility(page: Page, rules?: string[]): Promise<string[]> {
  const options: axe.RunOptions = rules ? { runOnly: rules } : {};
  const { violations } = await page.evaluate(
    (given) => (globalThis as unknown as { axe: typeof axe }).axe.run(given),
    options,
  );
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

export function picture(page: Page, name: string): Promise<Buffer> {
  return page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}
