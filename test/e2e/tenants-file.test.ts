import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { succeed } from "./support/command";

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create("tenants: { acme: {} }");
  await checkout.up();
});
afterAll(() => checkout?.remove());

const wrong = `tenants:
  acme:
    memory: 512
    acess: true
  Globex: {}
  initech: { hostname: acme, init: [init/missing.sql] }
`;

test.each(["preview", "up"])(
  "%s of a wrong file lists all that is wrong, and changes nothing",
  async (command) => {
    const before = await succeed("docker", ["inspect", checkout.name("acme"), checkout.name("proxy")]);
    checkout.write("tenants.yaml", wrong);
    const result = await checkout.tryPulumi(
      command,
      ...(command === "up" ? ["--yes", "--skip-preview"] : []),
    );
    expect(result.code).not.toBe(0);
    for (const problem of [
      /tenants\.yaml:3:13: tenants\.acme\.memory: .*512Mi/,
      /tenants\.yaml:4:5: tenants\.acme\.acess: .*access/,
      /tenants\.yaml:5:3: tenants\.Globex: /,
      /tenants\.yaml:6:24: tenants\.initech\.hostname: /,
      /tenants\.yaml:6:37: tenants\.initech\.init\S*: /,
    ]) {
      expect(result.output).toMatch(problem);
    }
    expect(result.output).not.toMatch(/\bat .*\.ts:\d+/);
    const after = await succeed("docker", ["inspect", checkout.name("acme"), checkout.name("proxy")]);
    const started = (text: string) =>
      JSON.parse(text).map((c: { Id: string; State: object }) => [c.Id, c.State]);
    expect(started(after)).toEqual(started(before));
  },
);

test("wrong configuration is refused in the same way", async () => {
  checkout.write("tenants.yaml", "tenants: { acme: {} }");
  await checkout.pulumi("config", "set", "--path", "pgs:images.18", "postgres:latest");
  const result = await checkout.tryPulumi("preview");
  await checkout.pulumi("config", "rm", "pgs:images");
  expect(result.code).not.toBe(0);
  expect(result.output).toMatch(/pgs:images\.18: expected a tag other than latest/);
});
