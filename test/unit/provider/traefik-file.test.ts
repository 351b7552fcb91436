import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../docker/cache";
import { TraefikFile } from "../../../provider/traefik-file";
import { changeFiles, engine } from "../support/engine";
import { StackOfOne } from "../support/stack";

vi.mock("../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const file = { container: "pgs-proxy", path: "/etc/traefik/dynamic/tls.yml", content: "tls: {}\n" };
let stack: StackOfOne;

/** The proxy's container under a name; the files are in its volume. */
function proxy(name: string, running = true): void {
  engine.containers = [];
  const Mounts = [{ Type: "volume" as const, Source: "pgs-proxy", Target: "/etc/traefik/dynamic" }];
  engine.addContainer(name, { HostConfig: { Mounts } }, running);
}

function files(): Record<string, string> {
  return Object.fromEntries(engine.files.get("pgs-proxy") ?? []);
}

beforeEach(() => {
  engine.reset();
  engine.answer = (exec) => changeFiles(exec) ?? {};
  vi.spyOn(pulumi.log, "info").mockResolvedValue();
  proxy("pgs-proxy");
  stack = new StackOfOne("TraefikFile");
});

describe("a file of the proxy", () => {
  it("is written under another name and renamed", async () => {
    await stack.up(file);
    expect(files()).toEqual({ [file.path]: file.content });
    expect(engine.ran.at(-1)).toContain("rename tls.yml");
    expect(await stack.up(file)).toBeUndefined();
  });

  it("that was changed or removed by hand is written again", async () => {
    await stack.up(file);
    engine.files.get("pgs-proxy")?.set(file.path, "by hand");
    expect(await stack.up(file)).toBe("update");
    engine.files.get("pgs-proxy")?.clear();
    expect(await stack.up(file)).toBe("update");
    expect(files()).toEqual({ [file.path]: file.content });
  });

  it("is removed; one that is gone, or whose proxy is, is no error", async () => {
    await stack.up(file);
    await TraefikFile.delete("", file);
    expect(files()).toEqual({});
    await TraefikFile.delete("", file);
    proxy("pgs-proxy", false);
    await TraefikFile.delete("", file);
    engine.containers = [];
    await TraefikFile.delete("", file);
  });

  it("can name a network, whose subnet it then has; without the network it is not written", async () => {
    const named = { ...file, content: "rule: ClientIP(`network:pgs--monitoring`)\n" };
    await expect(stack.up(named)).rejects.toThrow("tls.yml names a network that is not there");
    const subnet = "10.213.255.240/28";
    engine.addNetwork("pgs--monitoring", {}, true, subnet);
    clearCache();
    await stack.up(named);
    expect(files()).toEqual({ [file.path]: `rule: ClientIP(\`${subnet}\`)\n` });
    expect(await stack.up(named)).toBeUndefined();
  });

  it("needs a proxy that runs, and says what to do", async () => {
    proxy("pgs-proxy", false);
    await expect(stack.up(file)).rejects.toThrow("the container pgs-proxy is not running");
  });

  it("is replaced under another path, the old one removed first", async () => {
    await stack.up(file);
    const other = { ...file, path: "/etc/traefik/dynamic/other.yml" };
    expect(await stack.up(other)).toBe("replace");
    expect(files()).toEqual({ [other.path]: file.content });
  });

  it.each([
    ["back", "pgs-proxy"],
    ["again", "b-proxy"],
  ])("whose proxy gets another name, fails, and is changed %s, converges", async (_, last) => {
    await stack.up(file);
    await expect(stack.up({ ...file, container: "b-proxy", content: "b" })).rejects.toThrow("b-proxy");
    proxy(last);
    await stack.up({ ...file, container: last, content: last });
    expect(files()).toEqual({ [file.path]: last });
    expect(await stack.differs({ ...file, container: last, content: last })).toBe(false);
  });
});
