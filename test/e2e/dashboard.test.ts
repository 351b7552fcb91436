import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { serve } from "@hono/node-server";
import type { Browser, Response } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { pageFiles } from "../../cli/dashboard/page-files";
import { dashboardApp, newToken } from "../../cli/dashboard/server";
import { accessibility, launch, picture, watchedPage } from "./support/browser";
import { MadeUpStack } from "./support/made-up-stack";

// The page of made-up stacks in a real browser; commands.test.ts has it of a real one.
const token = newToken();
let browser: Browser;
const servers: Server[] = [];

/** @returns the dashboard's address */
async function served(count: number): Promise<string> {
  const app = dashboardApp({
    source: new MadeUpStack(count),
    files: await pageFiles(),
    token,
    cookie: `dash-${count}`,
  });
  const server = await new Promise<Server>((resolve) => {
    const made = serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }, () => resolve(made as Server));
  });
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

let twelve: string;
beforeAll(async () => {
  [browser, twelve] = await Promise.all([launch(), served(12)]);
});
afterAll(async () => {
  await browser?.close();
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
});

const pages = [
  { name: "fleet", path: "#/", ready: "acme" },
  { name: "tenant", path: "#/tenants/acme", ready: "still waiting for ShareLock" },
  { name: "problem", path: "#/tenants/wayne", ready: "the base backup is old" },
  { name: "stopped", path: "#/tenants/initech", ready: "./pgs start initech" },
  { name: "host", path: "#/host", ready: "pgs-proxy" },
  { name: "changes", path: "#/changes", ready: "created 9" },
];

test.each([
  { width: 1600, height: 900 },
  { width: 360, height: 740 },
])("at $width pixels, in light and dark, no page is cut off or keeps anybody out", async (viewport) => {
  const { page, wrong } = await watchedPage(browser, { viewport, withAxe: true });
  await page.goto(`${twelve}?token=${token}`);
  for (const { name, path, ready } of pages) {
    await page.goto(twelve + path);
    await page.getByText(ready).first().waitFor();
    if (name === "tenant") await page.locator("canvas").first().waitFor();
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await picture(page, `${name}-${viewport.width}-${colorScheme}`);
      // Dark has other colours, and nothing else.
      expect(
        await accessibility(page, colorScheme === "dark" ? ["color-contrast"] : undefined),
        name,
      ).toEqual([]);
    }
    expect(await page.evaluate("document.documentElement.scrollWidth"), name).toBe(viewport.width);
    // The tenants' text, in log, statements, sessions, problems and messages, is text.
    expect(await page.title()).not.toBe("owned");
    expect(await page.locator("main img, main script").count()).toBe(0);
  }
  expect(wrong).toEqual([]);
  await page.context().close();
});

test("the token leaves the address at once, and the cookie is not for scripts", async () => {
  const { page } = await watchedPage(browser);
  await page.goto(`${twelve}?token=${token}`);
  await page.getByText("acme").first().waitFor();
  expect(page.url()).toBe(twelve);
  expect(await page.evaluate("document.cookie")).toBe("");
  await page.reload();
  await page.getByText("acme").first().waitFor();
  await page.context().close();
});

test("by the keyboard alone: find a tenant, open it, choose a client, copy a command, go back", async () => {
  const { page } = await watchedPage(browser);
  await page.goto(`${twelve}?token=${token}`);
  await page.getByText("acme").first().waitFor();
  await page.keyboard.press("Tab");
  expect(await page.evaluate("document.activeElement.textContent")).toContain("Skip to the content");
  await page.keyboard.press("/");
  await page.keyboard.type("globex");
  await expect.poll(() => page.locator("tbody tr").count()).toBe(1);
  const focused = () => page.evaluate<string>("document.activeElement.textContent");
  const tabTo = async (text: string) => {
    for (let count = 0; count < 60 && (await focused()) !== text; count++) await page.keyboard.press("Tab");
    expect(await focused()).toBe(text);
  };
  await tabTo("globex");
  await page.keyboard.press("Enter");
  await expect.poll(() => page.title()).toBe("globex · pgs prod");
  // A screen reader goes on from the new heading.
  await expect.poll(focused).toContain("globex");
  await page.getByText("still waiting for ShareLock").waitFor();
  await tabTo(".env");
  await page.keyboard.press("Enter");
  expect(await page.getByText("PGHOST=globex.pgs.example.com").count()).toBe(1);
  await tabTo("Copy");
  await page.keyboard.press("Enter");
  await page.getByText("Copied").waitFor();
  expect(await page.evaluate("navigator.clipboard.readText()")).toContain("PGHOST=globex.pgs.example.com");
  await page.goBack();
  await expect.poll(() => page.title()).toBe("Tenants · pgs prod");
  await page.context().close();
});

test("it sorts, and filters those that need attention", async () => {
  const { page } = await watchedPage(browser);
  await page.goto(`${twelve}?token=${token}`);
  await page.getByRole("button", { name: "Needs attention" }).click();
  const ids = () => page.locator("tbody th").allTextContents();
  await expect.poll(ids).toEqual(["aperture", "cyberdyne", "hooli", "tyrell", "umbrella", "wayne"]);
  await page.getByRole("button", { name: "Connections" }).click();
  await expect.poll(ids).toEqual(["tyrell", "wayne", "umbrella", "hooli", "aperture", "cyberdyne"]);
  await page.context().close();
});

test("the restore commands follow the time that is chosen, and say where it is out of range", async () => {
  const { page } = await watchedPage(browser);
  await page.goto(`${twelve}?token=${token}`);
  await page.goto(`${twelve}#/tenants/acme`);
  const field = page.getByLabel("Time to restore (UTC)");
  const at = new Date(Date.now() - 3 * 86_400_000).toISOString().slice(0, 19);
  await field.fill(at);
  await page.getByText(`./pgs restore acme --at ${at}Z --as acme-copy`).waitFor();
  await field.fill("2020-01-01T00:00:00");
  await page.getByText("outside of what can be restored").waitFor();
  expect(await page.getByText("./pgs restore acme").count()).toBe(0);
  await page.context().close();
});

test("200 tenants take less than a second of processor time", async () => {
  const address = await served(200);
  const { page, wrong } = await watchedPage(browser, { viewport: { width: 1600, height: 900 } });
  const bodies: Promise<number>[] = [];
  const note = (response: Response) => bodies.push(response.body().then(({ length }) => length));
  page.on("response", note);
  await page.goto(`${address}?token=${token}`);
  await page.locator("tbody tr").nth(199).waitFor();
  page.off("response", note);
  const bytes = (await Promise.all(bodies)).reduce((sum, length) => sum + length, 0);
  // The tests run side by side, on few cores: what counts is the page's own processor time, not what it waited.
  const inspector = await page.context().newCDPSession(page);
  await inspector.send("Performance.enable", { timeDomain: "threadTicks" });
  const begun = performance.now();
  await page.goto(address);
  await page.locator("tbody tr").nth(199).waitFor();
  const elapsed = (performance.now() - begun) / 1000;
  const { metrics } = await inspector.send("Performance.getMetrics");
  const busy = metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
  console.log(
    `200 tenants: ${busy.toFixed(2)} s of processor time, after ${elapsed.toFixed(2)} s; ${Math.round(bytes / 1024)} KiB`,
  );
  expect(busy).toBeLessThan(1);
  expect(wrong).toEqual([]);
  await picture(page, "fleet-200");
  await page.context().close();
});

test("when the command has ended, the page says so and what to do", async () => {
  const address = await served(1);
  const { page } = await watchedPage(browser);
  await page.goto(`${address}?token=${token}`);
  await page.getByText("acme").first().waitFor();
  const server = servers.pop();
  server?.close();
  server?.closeAllConnections();
  await page.getByRole("alert").getByText("./pgs dashboard").waitFor({ timeout: 60_000 });
  await page.context().close();
});
