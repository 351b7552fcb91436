import { describe, expect, it } from "vitest";
import { conninfo, dockerHostAddress } from "../../../../cli/lib/address";

describe("the address of the Docker host", () => {
  it.each([
    [undefined, "127.0.0.1"],
    ["unix:///run/user/1000/docker.sock", "127.0.0.1"],
    ["ssh://root@192.0.2.8", "192.0.2.8"],
    ["ssh://root@192.0.2.9:22", "192.0.2.9"],
    ["tcp://192.0.2.10/", "192.0.2.10"],
    ["tcp://[2001:db8::7]:2376", "2001:db8::7"],
    ["tcp://localhost:2375", expect.stringMatching(/^(127\.0\.0\.1|::1)$/)],
    ["ssh://root@docker.invalid", undefined],
  ])("%s is numeric: %s", async (host, address) => {
    expect(await dockerHostAddress(host)).toEqual(address);
  });
});

it("quotes what psql would take apart", () => {
  expect(conninfo({ host: "a.b", sslrootcert: "/tmp/it's a \\/ca.pem" })).toBe(
    "host=a.b sslrootcert='/tmp/it\\'s a \\\\/ca.pem'",
  );
});
