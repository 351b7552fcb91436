import { randomBytes } from "node:crypto";
import { askedOnce } from "../../docker/cache";
import { dockerClient, ifPresent } from "../../docker/client";
import { runTask } from "../../restore/run-script";
import { nearest } from "../../tenants/suggest";
import type { PostgresServerInputs } from "./inputs";

type Inputs = Partial<PostgresServerInputs>;

/** An extension whose files are in an image. */
interface Available {
  /** The version that is installed where none is named. */
  newest: string;
  /** The versions that it can be made in. */
  creatable: string[];
  /** The versions that one that is there can be updated to, if there is a way from its own. */
  reachable: string[];
}

/** An image is of the PostgreSQL that is in it, whatever its name. The official one says so, and what is built on it. */
export async function versionProblem(inputs: Inputs, before: Inputs): Promise<string | undefined> {
  const { version, container } = inputs;
  const { imageId, image } = container ?? {};
  if (imageId === before.container?.imageId) return undefined;
  const info = await inspectImage(inputs);
  if (!info || version === undefined) return undefined;
  const named = (info.Config?.Env ?? []).find((line) => line.startsWith("PG_MAJOR="));
  const found = named?.slice("PG_MAJOR=".length);
  if (found === String(version)) return undefined;
  return `the image ${image} ${found ? `has PostgreSQL ${found}` : "is not built on PostgreSQL's official one: it has no PG_MAJOR"}, and the tenant's version is ${version}: set pgs:images.${version}, or the key with its variant, to an image of PostgreSQL ${version}`;
}

/** Undefined when the host does not have it yet, as in the preview of a new one. */
function inspectImage({ host, container }: Inputs) {
  const { imageId = "" } = container ?? {};
  return askedOnce(`image ${host} ${imageId}`, () =>
    ifPresent(dockerClient(host).getImage(imageId).inspect()),
  );
}

/** What is wrong with the names and versions of extensions, where they or the image are new. */
export async function extensionsProblem(inputs: Inputs, before: Inputs): Promise<string | undefined> {
  const { extensions = {}, container, positions = {}, tenant } = inputs;
  const isNew = ([name, version]: [string, string]) =>
    container?.imageId !== before.container?.imageId || before.extensions?.[name] !== version;
  const asked = Object.entries(extensions).filter(isNew);
  if (asked.length === 0 || !container || !(await inspectImage(inputs))) return undefined;
  const available = await availableIn(inputs);
  const problems = asked.flatMap(([name, version]) => {
    const found = available.get(name);
    const isThere = before.extensions?.[name] !== undefined;
    const reason = found
      ? versionReason(name, version, found.newest, isThere ? found.reachable : found.creatable)
      : nameReason(name, container.image ?? "", [...available.keys()]);
    const position = positions[`extensions.${name}`];
    return reason ? [`${position ? `${position}: ` : ""}tenants.${tenant}.extensions: ${reason}`] : [];
  });
  return problems.length > 0 ? problems.join("\n") : undefined;
}

function nameReason(name: string, image: string, names: string[]): string {
  const meant = nearest(name, names);
  return `the image ${image} has no extension ${name}${meant ? `; did you mean ${meant}?` : "."} It has ${names.join(", ")}`;
}

function versionReason(
  name: string,
  version: string,
  newest: string,
  versions: string[],
): string | undefined {
  if (version === "" || versions.includes(version)) return undefined;
  return `${name} ${version} cannot be made from the image's files; leave the version out for ${newest}, or write one of ${versions.join(", ")}`;
}

/** The version that an image brings of each of its extensions. */
export async function newestIn(inputs: Inputs): Promise<Map<string, string>> {
  return new Map([...(await availableIn(inputs))].map(([name, { newest }]) => [name, newest]));
}

/** By what is in the image's own files, which no tenant writes to. */
async function availableIn(inputs: Inputs): Promise<Map<string, Available>> {
  return availableFrom(await printedIn(inputs, "extensions", ["bash", "-c", listFiles]));
}

/** What a command prints in the image. @param question what it asks, in which it differs from others */
export function printedIn(
  { host, stack = "", container }: Inputs,
  question: string,
  command: string[],
): Promise<string> {
  const { imageId = "", name = "" } = container ?? {};
  return askedOnce(`${question} ${host} ${imageId}`, () =>
    runTask(dockerClient(host), {
      // Two previews may look at the same time.
      name: `${name}--image-${randomBytes(4).toString("hex")}`,
      stack,
      image: imageId,
      binds: [],
      command,
    }),
  );
}

/** An image may have more than one PostgreSQL; the folder is another in each distribution. */
const listFiles = `
  found=$(find / -xdev -path '*/extension/plpgsql.control' 2>/dev/null)
  ours=$(grep -m 1 "/$PG_MAJOR/" <<<"$found" || head -n 1 <<<"$found")
  cd "$(dirname "$ours")"
  printf '%s\\n' *.sql
  grep -H '^ *default_version' *.control`;

/** @param listed file names, and lines such as `vector.control:default_version = '0.8.0'` */
export function availableFrom(listed: string): Map<string, Available> {
  const lines = listed.split("\n");
  const scripts = lines
    .filter((line) => line.endsWith(".sql"))
    .map((line) => line.slice(0, -".sql".length).split("--"));
  return new Map(
    lines.flatMap((line): [string, Available][] => {
      const [, name = "", newest = ""] =
        /^([^:]+)\.control: *default_version *= *'?([^'\s]+)/.exec(line) ?? [];
      // `NAME--VERSION.control` has what differs in that version.
      if (!name || name.includes("--")) return [];
      return [[name, { newest, ...versionsOf(scripts.filter(([of]) => of === name)) }]];
    }),
  );
}

/** Of scripts NAME--VERSION, which make one, and NAME--FROM--TO, which update it. */
function versionsOf(scripts: string[][]): Pick<Available, "creatable" | "reachable"> {
  const creatable = new Set(scripts.flatMap(([, version = "", to]) => (to === undefined ? [version] : [])));
  // A set that grows is gone through to its end.
  for (const version of creatable) {
    for (const [, from, to] of scripts) if (from === version && to !== undefined) creatable.add(to);
  }
  return { creatable: [...creatable], reachable: scripts.map((parts) => parts.at(-1) ?? "") };
}
