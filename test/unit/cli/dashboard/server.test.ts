import { describe, expect, it } from "vitest";
import { dashboardApp, newToken } from "../../../../cli/dashboard/server";
import { MadeUpStack } from "../../../e2e/support/made-up-stack";

const token = newToken();
const files = {
  "/": { type: "text/html; charset=utf-8", content: "<!doctype html>page" },
  "/page.js": { type: "text/javascript", content: "script" },
};
const app = dashboardApp({ source: new MadeUpStack(3), files, token, cookie: "dash" });

function get(path: string, { method = "GET", host = "127.0.0.1:8484", cookie = `dash=${token}` } = {}) {
  return app.request(`http://${host}${path}`, { method, headers: { Host: host, Cookie: cookie } });
}

describe("the dashboard's server", () => {
  it("gives the page to whoever has the token, and a cookie that scripts and other sites do not get", async () => {
    const response = await get(`/?token=${token}`, { cookie: "" });
    expect(response.status).toBe(200);
    expect(await response.text()).toContain("page");
    const cookie = response.headers.get("Set-Cookie") ?? "";
    expect(cookie).toBe(`dash=${token}; Path=/; HttpOnly; SameSite=Strict`);
    expect((await get("/page.js")).status).toBe(200);
  });

  it.each([
    "/",
    "/?token=",
    "/?token=wrong",
    "/page.js",
    "/api/fleet",
    `/api/fleet?token=${token}`,
    "/nothing",
  ])("refuses %s without the cookie, whether there is such a path or not", async (path) => {
    for (const cookie of ["", "dash=wrong", `other=${token}`, `dash=${token.slice(0, -1)}`]) {
      const response = await get(path, { cookie });
      expect(response.status).toBe(403);
      expect(await response.text()).not.toContain(token);
    }
  });

  it.each(["localhost:8484", "127.0.0.1:9000", "[::1]:8484", "localhost"])("answers to %s", async (host) => {
    expect((await get("/", { host })).status).toBe(200);
  });

  it.each([
    "evil.example",
    "evil.example:8484",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "192.168.1.2:8484",
  ])(
    "does not answer to %s, even with the token: that name may be made to resolve to this machine",
    async (host) => {
      expect((await get(`/?token=${token}`, { host })).status).toBe(421);
    },
  );

  it.each(["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])("refuses %s: it only shows", async (method) => {
    for (const path of ["/", "/api/fleet", "/api/tenants/acme"])
      expect((await get(path, { method })).status).toBe(405);
  });

  it.each([
    ...[
      "/../../etc/passwd",
      "/%2e%2e/%2e%2e/etc/passwd",
      "/page.js/../server.ts",
      "/cli/dashboard/server.ts",
    ],
    ...[
      "/api/tenants/..%2f..%2fetc%2fpasswd",
      "/api/tenants/none",
      "/api/tenants/none/log",
      "/api/tenants/acme/nothing",
    ],
    ...["/api/tenants/__proto__", "/api/tenants/constructor/top"],
  ])("has no %s", async (path) => {
    expect((await get(path)).status).toBe(404);
  });

  it("says with each answer, refusals too, that nothing else is to be loaded, run, framed or kept", async () => {
    for (const response of [
      await get("/"),
      await get("/", { cookie: "" }),
      await get("/", { host: "evil" }),
    ]) {
      const policy = response.headers.get("Content-Security-Policy") ?? "";
      expect(policy).toContain("default-src 'none'");
      expect(policy).not.toMatch(/unsafe|\*|https?:|data:/);
      expect(policy).toContain("require-trusted-types-for 'script'");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(response.headers.get("X-Content-Type-Options")).toBe("nosniff");
      expect(response.headers.get("Referrer-Policy")).toBe("no-referrer");
      expect(response.headers.get("Cache-Control")).toBe("no-store");
    }
  });

  it("offers some ranges of time alone", async () => {
    expect((await get("/api/tenants/acme/charts?hours=6")).status).toBe(200);
    for (const hours of ["", "0", "7", "1e9", "6;drop"])
      expect((await get(`/api/tenants/acme/charts?hours=${hours}`)).status).toBe(400);
  });

  it("says what failed, and goes on", async () => {
    const source = new MadeUpStack(1);
    source.host = () => Promise.reject(new Error("the engine is gone"));
    const failing = dashboardApp({ source, files, token, cookie: "dash" });
    const response = await failing.request("http://localhost/api/host", {
      headers: { Host: "localhost", Cookie: `dash=${token}` },
    });
    expect(await response.json()).toEqual({ value: null, at: null, problem: "the engine is gone" });
  });
});
