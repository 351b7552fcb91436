import { isDeepStrictEqual } from "node:util";
import { applyPatch, structuredPatch } from "diff";
import { type Document, isMap, isScalar, parseDocument, YAMLMap } from "yaml";
import { nearest } from "../../tenants/suggest";

/** One change of the text of a tenants.yaml. */
export type Edit = (file: Document) => void;

/** The edit cannot be made; the message says why. */
export class EditError extends Error {}

/**
 * The text after `edit`: comments, order and style of the rest stay as they were. The library writes a file in
 * a style of its own, so what the edit changes in that is carried over to the text as it is.
 */
export function edited(text: string, edit: Edit): string {
  const file = parseDocument(text);
  const indent = /^( +)[^\s#]/m.exec(text)?.[1]?.length ?? 2;
  const written = () => file.toString({ lineWidth: 0, indent });
  const before = written();
  edit(file);
  const after = written();
  if (after === before) return text;
  const changes = structuredPatch("", "", before, after, "", "", { context: 3 });
  const sameLine = (one: string, other: string) => one.replace(/\s/g, "") === other.replace(/\s/g, "");
  const carried = applyPatch(text, changes, {
    compareLine: (_number, line, _operation, other) => sameLine(line, other),
  });
  if (carried === false) return after;
  const result = parseDocument(carried);
  const meansTheSame = result.errors.length === 0 && isDeepStrictEqual(result.toJS(), file.toJS());
  return meansTheSame ? carried : after;
}

/** A new entry with these fields, after the others. */
export function addTenant(id: string, fields: Record<string, unknown>): Edit {
  return (file) => {
    const tenants = file.get("tenants");
    if (tenants !== undefined && tenants !== null && !isMap(tenants)) {
      throw new EditError("`tenants` is not a map: correct the file first");
    }
    if (file.hasIn(["tenants", id])) throw new EditError(`there is a tenant ${id} already`);
    // An empty map is written {}; with an entry in it, one a line is what everybody expects.
    if (isMap(tenants) && tenants.items.length === 0) tenants.flow = false;
    const entry = file.createNode(fields) as YAMLMap;
    entry.flow = Object.keys(fields).length === 0;
    if (!isMap(tenants)) file.set("tenants", new YAMLMap());
    file.setIn(["tenants", id], entry);
  };
}

/** What a copy is not given: what is the other's alone, or counts once. */
const notCopied = ["hostname", "init", "volume", "restoreFrom", "passwordVersion", "onRemove", "state"];

/** A new entry with the fields of another, where there is that one, and these. */
export function copyTenant(id: string, copy: string, fields: Record<string, unknown>): Edit {
  return (file) => {
    const entry = file.getIn(["tenants", id]);
    const copied = isMap(entry) ? Object.entries(entry.toJS(file)) : [];
    const kept = copied.filter(([field]) => !notCopied.includes(field));
    addTenant(copy, { ...Object.fromEntries(kept), ...fields })(file);
  };
}

export function removeTenant(id: string): Edit {
  return (file) => {
    requireTenant(file, id);
    file.deleteIn(["tenants", id]);
    const tenants = file.get("tenants");
    if (isMap(tenants) && tenants.items.length === 0) tenants.flow = true;
  };
}

/** Sets one field of a tenant; `path` is `memory`, `settings.work_mem` or `roles.app.connectionLimit`. */
export function setField(id: string, path: string, value: unknown): Edit {
  return (file) => {
    requireTenant(file, id);
    const keys = keysOf(path);
    const whole = ["tenants", id, ...keys];
    // `acme:` with nothing behind it is a tenant with every default, and so is a role.
    for (let depth = 2; depth < whole.length && file.hasIn(whole.slice(0, depth)); depth++) {
      const present = file.getIn(whole.slice(0, depth), true);
      if (!present || (isScalar(present) && present.value === null)) {
        file.setIn(whole.slice(0, depth), new YAMLMap());
      }
    }
    const old = file.getIn(whole, true);
    // Keeps the comment behind the old value.
    if (isScalar(old)) old.value = value;
    else file.setIn(whole, file.createNode(value));
  };
}

/** A setting's own name may have dots. */
function keysOf(path: string): string[] {
  const [, role, setting] = /^(roles\.[^.]+\.)?settings\.(.+)$/s.exec(path) ?? [];
  if (setting === undefined) return path.split(".");
  return [...(role ?? "").split(".").slice(0, -1), "settings", setting];
}

/** Takes a field out of a tenant's entry. */
export function removeField(id: string, field: string): Edit {
  return (file) => {
    requireTenant(file, id);
    const entry = file.getIn(["tenants", id]);
    // An entry may have nothing behind its name.
    if (!isMap(entry)) return;
    entry.delete(field);
    if (entry.items.length === 0) entry.flow = true;
  };
}

function requireTenant(file: Document, id: string): void {
  if (file.hasIn(["tenants", id])) return;
  const tenants = file.get("tenants");
  const ids = isMap(tenants) ? tenants.items.map(({ key }) => (isScalar(key) ? key.value : key)) : [];
  throw new EditError(unknownTenant(id, ids.map(String)));
}

/** That there is no such tenant, with the one that was probably meant. */
export function unknownTenant(id: string, ids: string[]): string {
  const meant = nearest(id, ids);
  if (meant) return `there is no tenant ${id}; did you mean ${meant}?`;
  const shown = ids.slice(0, 20).join(", ");
  return `there is no tenant ${id}; there are ${shown || "none"}${ids.length > 20 ? ", …" : ""}`;
}
