import { randomBytes, timingSafeEqual } from "node:crypto";
import { Hono, type MiddlewareHandler } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { Answer, Source } from "./api";
import type { PageFile } from "./page-files";

export interface Dashboard {
  source: Source;
  /** By path. */
  files: Record<string, PageFile>;
  /** Who has it may look. */
  token: string;
  /** Browsers keep cookies by host alone: another dashboard on another port has another one. */
  cookie: string;
}

/** 256 random bits. */
export function newToken(): string {
  return randomBytes(32).toString("base64url");
}

/** Hours of history that a page may ask for. */
const hoursOffered = [1, 6, 24];

const headers: Record<string, string> = {
  "Content-Security-Policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; "),
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cache-Control": "no-store",
};

/** The dashboard: it answers GET alone, to a browser of this machine that knows the token. */
export function dashboardApp({ source, files, token, cookie }: Dashboard): Hono {
  const app = new Hono();

  app.use(async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(headers)) c.header(name, value);
  });
  app.use(ownHost);
  app.use(async (c, next) => {
    if (c.req.method === "GET" || c.req.method === "HEAD") return next();
    return c.text("This page only shows: it answers GET.", 405, { Allow: "GET, HEAD" });
  });
  app.use(async (c, next) => {
    const given = c.req.path === "/" ? c.req.query("token") : undefined;
    if (given !== undefined && isToken(given)) {
      setCookie(c, cookie, token, { path: "/", httpOnly: true, sameSite: "Strict" });
      return next();
    }
    if (isToken(getCookie(c, cookie) ?? "")) return next();
    deleteCookie(c, cookie);
    return c.text("Open the address that ./pgs dashboard printed: it has the token.", 403);
  });

  for (const [path, { type, content }] of Object.entries(files)) {
    app.get(path, (c) => c.body(content, 200, { "Content-Type": type }));
  }
  app.get("/api/overview", async (c) => c.json(await source.overview()));
  app.get("/api/fleet", async (c) => c.json(await source.fleet()));
  app.get("/api/host", async (c) => c.json(await source.host()));
  app.get("/api/changes", async (c) => c.json(await source.changes()));
  app.get("/api/tenants/:id", async (c) => found(c.req.param("id"), await source.tenant(c.req.param("id"))));
  app.get("/api/tenants/:id/charts", async (c) => {
    const hours = Number(c.req.query("hours"));
    if (!hoursOffered.includes(hours)) return c.text(`hours is one of ${hoursOffered.join(", ")}`, 400);
    return found(c.req.param("id"), await source.charts(c.req.param("id"), hours));
  });
  for (const part of ["top", "backups", "log"] as const) {
    app.get(`/api/tenants/:id/${part}`, async (c) =>
      found(c.req.param("id"), await source[part](c.req.param("id"))),
    );
  }
  app.onError((error, c) => c.json({ value: null, at: null, problem: error.message } as Answer<null>));
  return app;

  function isToken(given: string): boolean {
    const [one, other] = [Buffer.from(given), Buffer.from(token)];
    return one.length === other.length && timingSafeEqual(one, other);
  }
}

/**
 * A page of another site can make its own name resolve to this machine: the browser then sends that name. The port may
 * be another one, as through an SSH tunnel.
 */
const ownHost: MiddlewareHandler = async (c, next) => {
  if (/^(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?$/.test(c.req.header("Host") ?? "")) return next();
  return c.text("This server answers to the names localhost and 127.0.0.1 alone.", 421);
};

function found(id: string, answer: Answer<unknown> | undefined): Response {
  if (answer === undefined) {
    const none: Answer<null> = { value: null, at: null, problem: `the stack has no tenant ${id}` };
    return Response.json(none, { status: 404 });
  }
  return Response.json(answer);
}
