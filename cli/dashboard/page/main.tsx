import "uplot/dist/uPlot.min.css";
import "./style.css";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Overview } from "../api";
import { ChangesPage } from "./changes";
import { FleetPage } from "./fleet";
import { HostPage } from "./host";
import { usePolled } from "./poll";
import { TenantPage } from "./tenant";

const pages = [
  { path: "/", title: "Tenants" },
  { path: "/host", title: "Host" },
  { path: "/changes", title: "Changes" },
];

function App() {
  const path = usePath();
  const tenant = /^\/tenants\/([a-z0-9-]+)$/.exec(path)?.[1];
  const overview = usePolled<Overview>("overview", 5);
  const title = tenant ?? pages.find((page) => page.path === path)?.title ?? "Not found";
  const stack = overview.value?.stack.replace(/-[^-]*$/, "") ?? "";
  useEffect(() => {
    document.title = `${title} · pgs ${stack}`;
  }, [title, stack]);
  return (
    <>
      <button type="button" class="skip" onClick={() => focus("#main")}>
        Skip to the content
      </button>
      <header class="top">
        <span class="brand">
          pgs <span class="faint">{stack}</span>
        </span>
        <nav aria-label="Pages">
          {pages.map((page) => (
            <a key={page.path} href={`#${page.path}`} aria-current={page.path === path ? "page" : undefined}>
              {page.title}
            </a>
          ))}
        </nav>
        <span class={`live ${overview.lost ? "lost" : ""}`} role="status">
          {overview.lost ? "not connected" : "live"}
        </span>
      </header>
      <main id="main" tabIndex={-1}>
        {overview.lost && (
          <p class="notice" role="alert">
            The command has ended, or was started anew. Run <code>./pgs dashboard</code> and open the address
            that it prints.
          </p>
        )}
        {tenant ? (
          <TenantPage key={tenant} id={tenant} />
        ) : path === "/" ? (
          <FleetPage />
        ) : path === "/host" ? (
          <HostPage />
        ) : path === "/changes" ? (
          <ChangesPage />
        ) : (
          <>
            <h1 tabIndex={-1}>Not found</h1>
            <p>
              There is no such page. <a href="#/">To the tenants</a>
            </p>
          </>
        )}
      </main>
    </>
  );
}

/** What is behind the # of the address; a change of it puts the focus on the new page's heading. */
function usePath(): string {
  const read = () => location.hash.slice(1) || "/";
  const [path, setPath] = useState(read);
  useEffect(() => {
    const changed = () => {
      setPath(read());
      scrollTo(0, 0);
      requestAnimationFrame(() => focus("h1"));
    };
    addEventListener("hashchange", changed);
    // It may have changed before anybody listened.
    setPath(read());
    return () => removeEventListener("hashchange", changed);
  }, []);
  return path;
}

function focus(selector: string): void {
  document.querySelector<HTMLElement>(selector)?.focus();
}

// The cookie has the token from here on; the address may be seen and kept.
if (location.search) history.replaceState(null, "", `/${location.hash}`);
render(<App />, document.querySelector("#app") as HTMLElement);
