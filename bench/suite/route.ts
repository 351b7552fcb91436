import { stringify } from "yaml";
import { TraefikFile } from "../../provider/traefik-file";
import type { Checkout } from "../../test/e2e/support/checkout";
import { eventually } from "../../test/e2e/support/command";
import { median } from "../support";
import type { Row } from "./row";

/** From the moment that a route's file is there until a login by it works. */
export async function routeLatency(checkout: Checkout): Promise<Row[]> {
  const { host: present = "" } = (await checkout.tenants()).t0 ?? {};
  const config = await checkout.clientConfig("t0");
  const { Client } = await import("pg");
  const times: number[] = [];
  for (let index = 0; index < 20; index++) {
    const host = present.replace(/^t0/, `route${index}`);
    const file = {
      container: checkout.name("proxy"),
      path: `/etc/traefik/dynamic/bench-${index}.yml`,
      content: stringify({
        tcp: {
          routers: {
            [`b${index}`]: {
              entryPoints: ["postgres"],
              rule: `HostSNI(\`${host}\`)`,
              service: "t0",
              tls: {},
            },
          },
        },
      }).replace("service: t0", "service: t0@file"),
    };
    const { id } = await TraefikFile.create(file);
    const written = performance.now();
    await eventually(10, async () => {
      const client = new Client({ ...config, ssl: { ...(config.ssl as object), servername: host } });
      await client.connect();
      await client.end();
    });
    times.push((performance.now() - written) / 1000);
    await TraefikFile.delete(id, file);
  }
  return [
    {
      figure: "a new route works after its file is written (median of 20)",
      measured: `${median(times).toFixed(3)} s`,
      against: "–",
      aim: "≤ 0.2 s",
      met: median(times) <= 0.2,
    },
  ];
}
