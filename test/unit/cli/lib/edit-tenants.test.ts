import { describe, expect, it } from "vitest";
import {
  addTenant,
  copyTenant,
  type Edit,
  edited,
  removeField,
  removeTenant,
  setField,
} from "../../../../cli/lib/edit-tenants";

const file = `# yaml-language-server: $schema=./tenants.schema.json

# For all of them.
defaults: { version: 18, memory: 256Mi }

tenants:
  acme: {}

  # The big one.
  globex:
    memory: 1Gi # since March
    settings: { work_mem: 16MB }
  initech:
`;

const change = (edit: Edit, text = file) => edited(text, edit);

describe("an edit of tenants.yaml", () => {
  it("leaves all as it was when it changes nothing", () => {
    expect(change(() => {})).toBe(file);
    expect(change(setField("globex", "memory", "1Gi"))).toBe(file);
  });

  it("changes a value in its place and keeps the comment behind it", () => {
    expect(change(setField("globex", "memory", "2Gi"))).toBe(file.replace("1Gi #", "2Gi #"));
  });

  it("adds a field to an entry in braces, in a block or of nothing", () => {
    expect(change(setField("acme", "access", false))).toBe(
      file.replace("acme: {}", "acme: { access: false }"),
    );
    expect(change(setField("globex", "cpus", 2))).toBe(file.replace("  initech:", "    cpus: 2\n  initech:"));
    expect(change(setField("initech", "state", "stopped"))).toBe(`${file}    state: stopped\n`);
  });

  it("copies a tenant without what is its alone, and makes one where there is none to copy", () => {
    const text =
      "tenants:\n  acme: { memory: 1Gi, hostname: a, init: [a.sql], passwordVersion: 2, volume: old, state: stopped, onRemove: delete }\n";
    const restoreFrom = { tenant: "acme" };
    const copied = "  copy:\n    memory: 1Gi\n    restoreFrom:\n      tenant: acme\n";
    expect(change(copyTenant("acme", "copy", { restoreFrom }), text)).toBe(text + copied);
    expect(change(copyTenant("gone", "copy", { restoreFrom }), text)).toBe(
      `${text}  copy:\n    restoreFrom:\n      tenant: acme\n`,
    );
  });

  it("takes back what setting a field did", () => {
    for (const id of ["acme", "globex"]) {
      const stopped = change(setField(id, "state", "stopped"));
      expect(stopped).not.toBe(file);
      expect(change(removeField(id, "state"), stopped)).toBe(file);
    }
    expect(change(removeField("initech", "state"))).toBe(file);
  });

  it("sets one field of a role, whose settings have names with dots", () => {
    const text = "tenants:\n  acme:\n    roles:\n      app:\n";
    expect(change(setField("acme", "roles.app.connectionLimit", 5), text)).toBe(
      `${text}        connectionLimit: 5\n`,
    );
    expect(change(setField("acme", "roles.more.settings.app.e", "x"), text)).toBe(
      `${text}      more:\n        settings:\n          app.e: x\n`,
    );
  });

  it("sets one setting beside the others", () => {
    expect(change(setField("globex", "settings.jit", false))).toBe(
      file.replace("{ work_mem: 16MB }", "{ work_mem: 16MB, jit: false }"),
    );
    expect(change(setField("acme", "settings.work_mem", "8MB"))).toContain(
      "acme: { settings: { work_mem: 8MB } }",
    );
  });

  it("leaves a style alone that is not the library's own", () => {
    const odd = "tenants:\n    acme:   {init: [ a.sql,b.sql ]}   # one\n    'globex' : {}\n";
    expect(change(setField("globex", "cpus", 2), odd)).toBe(
      odd.replace(/ {4}'globex' .*/, "    'globex': { cpus: 2 }"),
    );
    expect(change(() => {}, odd)).toBe(odd);
  });

  it("adds a tenant after the others", () => {
    expect(change(addTenant("hooli", {}))).toBe(`${file}  hooli: {}\n`);
    expect(change(addTenant("hooli", { memory: "1Gi", init: ["a.sql"] }))).toMatch(
      /initech:\n {2}hooli:\n {4}memory: 1Gi\n {4}init:\n {6}- a\.sql\n$/,
    );
  });

  it("adds the first tenant to an empty map, and leaves one behind when the last goes", () => {
    expect(change(addTenant("acme", {}), "tenants: {}\n")).toBe("tenants:\n  acme: {}\n");
    expect(change(removeTenant("acme"), "tenants:\n  acme: {}\n")).toBe("tenants: {}\n");
  });

  it("takes a tenant out with the comment that belongs to it, and no other", () => {
    const after = change(removeTenant("globex"));
    expect(after).not.toMatch(/globex|big one|since March/);
    expect(after).toContain("# For all of them.");
    expect(after).toContain("  acme: {}\n");
    expect(after).toContain("  initech:\n");
  });

  it("of a tenant that is not there, or there already, is refused with the ones that are", () => {
    expect(() => change(setField("hooli", "memory", "1Gi"))).toThrow(
      "there is no tenant hooli; there are acme, globex, initech",
    );
    expect(() => change(removeTenant("hooli"))).toThrow("there is no tenant hooli");
    expect(() => change(addTenant("acme", {}))).toThrow("there is a tenant acme already");
  });
});
