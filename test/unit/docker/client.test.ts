import Docker from "dockerode";
import { afterEach, describe, expect, it, vi } from "vitest";
import { connectionOptions, dockerClient } from "../../../docker/client";

describe("the address of an engine", () => {
  it("is understood as the docker command understands it", () => {
    expect(connectionOptions("unix:///run/other.sock", {})).toMatchObject({ socketPath: "/run/other.sock" });
    expect(connectionOptions("tcp://10.0.0.5:2375", {})).toMatchObject({
      protocol: "http",
      host: "10.0.0.5",
      port: "2375",
    });
    expect(connectionOptions("10.0.0.5:2375", {})).toMatchObject({ host: "10.0.0.5", port: "2375" });
    expect(connectionOptions("tcp://10.0.0.5:2376", {})).toMatchObject({ protocol: "https" });
    expect(connectionOptions("tcp://10.0.0.5:9", { DOCKER_TLS_VERIFY: "1" })).toMatchObject({
      protocol: "https",
    });
    expect(connectionOptions("ssh://deploy@db.example.com", { SSH_AUTH_SOCK: "/agent" })).toMatchObject({
      protocol: "ssh",
      host: "db.example.com",
      username: "deploy",
      sshOptions: { agent: "/agent" },
    });
  });

  it("that is none is refused with what is allowed", () => {
    expect(() => connectionOptions("ftp://x", {})).toThrow("expected unix://, tcp:// or ssh://");
    expect(() => connectionOptions("tcp://x:y:z", {})).toThrow("expected unix://, tcp:// or ssh://");
  });
});

describe("a client", () => {
  afterEach(() => vi.unstubAllEnvs());

  it("of a given address is not led elsewhere by DOCKER_HOST, which stays as it is", () => {
    vi.stubEnv("DOCKER_HOST", "tcp://elsewhere:2375");
    const client = dockerClient("unix:///run/given.sock");
    expect(client).toBeInstanceOf(Docker);
    expect(client.modem).toMatchObject({ host: undefined, socketPath: "/run/given.sock" });
    expect(process.env.DOCKER_HOST).toBe("tcp://elsewhere:2375");
  });

  it("is the same for the same address", () => {
    expect(dockerClient("unix:///run/one.sock")).toBe(dockerClient("unix:///run/one.sock"));
  });
});
