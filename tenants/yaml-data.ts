import {
  type Alias,
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  type Pair,
  parseDocument,
  type Scalar,
  visit,
  type YAMLMap,
} from "yaml";
import { formatPath, type Position, type Problem, show } from "./problems";

type Path = readonly (string | number)[];

/** What a YAML text says, and where it says it. */
export interface YamlData {
  /** Plain maps, lists and values; undefined when the text holds nothing. */
  readonly data: unknown;
  /** Everything that makes it no YAML, or YAML that cannot mean what its writer thinks. */
  readonly problems: readonly Problem[];
  /** Where the key at this path is; of what is not in the text, where the nearest map around it is. */
  keyPosition(path: readonly PropertyKey[]): Position;
  /** Where the value at this path is; one that is left empty is where its key is. */
  valuePosition(path: readonly PropertyKey[]): Position;
}

/** Deeper than any tenants.yaml; keeps text that was made to overflow the stack from doing so. */
const maxDepth = 32;
/** Longer than the name of any setting. */
const maxKeyLength = 256;
/** More than a thousand tenants need; keeps a few nested aliases from becoming billions of values. */
const maxNodes = 200_000;

/**
 * Reads YAML 1.2. Anchors, aliases and merge keys (`<<`) work. Positions come from the walk over the
 * document that also builds the data, as the same value can be reached by several paths.
 */
export function readYaml(text: string): YamlData {
  const yaml = text.replace(/^\ufeff/, "");
  const document = parseDocument(yaml, {
    merge: true,
    prettyErrors: false,
    uniqueKeys: false,
  });
  const positionAt = positionsIn(yaml);

  const syntaxProblems = syntaxProblemsOf(document, positionAt);
  if (syntaxProblems.length > 0) {
    const start = () => ({ line: 1, column: 1 });
    return { data: undefined, problems: syntaxProblems, keyPosition: start, valuePosition: start };
  }

  const walk = new Walk(document, positionAt);
  const data = walk.data();
  const find = (path: readonly PropertyKey[], part: "key" | "value"): Position => {
    let place = walk.root;
    for (const name of path) {
      const inner = place.children.get(name);
      if (!inner) break;
      place = inner;
    }
    return positionAt(place[part]);
  };
  return {
    data,
    problems: walk.problems.map(({ offset, path, message }) => ({
      ...positionAt(offset),
      path: formatPath(path),
      message,
    })),
    keyPosition: (path) => find(path, "key"),
    valuePosition: (path) => find(path, "value"),
  };
}

/** Line and column by offset. The YAML library's own counter misses lines of broken text. */
function positionsIn(text: string): (offset: number) => Position {
  const starts = [0, ...[...text.matchAll(/\n/g)].map(({ index }) => index + 1)];
  return (offset) => {
    let [low, high] = [0, starts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle;
    }
    return { line: low + 1, column: offset - (starts[low] ?? 0) + 1 };
  };
}

function syntaxProblemsOf(document: Document.Parsed, positionAt: (offset: number) => Position): Problem[] {
  const all = [...document.errors, ...document.warnings];
  const tooDeep = all.find(({ code }) => code === "RESOURCE_EXHAUSTION");
  return (tooDeep ? [tooDeep] : all).map(({ code, message, pos }) => ({
    ...positionAt(pos[0]),
    path: "",
    message: syntaxMessages[code] ?? `this is not valid YAML: ${message}`,
  }));
}

const syntaxMessages: Partial<Record<string, string>> = {
  MULTIPLE_DOCS: "the file has to be one YAML document; take this --- and what it separates out",
  RESOURCE_EXHAUSTION: "this is nested too deeply",
  TAB_AS_INDENT: "this line is indented with a tab; YAML wants spaces",
  TAG_RESOLVE_FAILED: "tags (!…) are not known here; write the plain value",
};

/** Where a value and its key are; a tree, as paths as text would take as long as all keys on them. */
interface Place {
  key: number;
  value: number;
  readonly children: Map<PropertyKey, Place>;
}

interface Entry {
  readonly pair: Pair;
  /** Where the key is. */
  readonly offset: number;
}

/** One walk over a document, which gathers its data, what is wrong with it and where everything is. */
class Walk {
  readonly problems: { offset: number; path: Path; message: string }[] = [];
  readonly root: Place = { key: 0, value: 0, children: new Map() };
  private readonly reported = new Set<string>();
  private readonly aliasTargets: ReadonlyMap<unknown, unknown>;
  /** Maps and lists that are being read: an alias to one of them would never end. */
  private readonly open = new Set<unknown>();
  private nodes = 0;

  constructor(
    private readonly document: Document.Parsed,
    private readonly positionAt: (offset: number) => Position,
  ) {
    this.aliasTargets = aliasTargetsOf(document);
  }

  data(): unknown {
    return this.read(this.document.contents, [], 0, this.root);
  }

  /** The data of one node; `key` is the offset of the key that it belongs to. */
  private read(node: unknown, path: Path, key: number, place: Place): unknown {
    const offset = offsetOf(node) ?? key;
    place.key = key;
    place.value = offset;
    if (this.isTooMuch(path.length, offset)) return undefined;
    if (isAlias(node)) {
      const target = this.aliasTarget(node, path);
      return target === undefined ? undefined : this.read(target, path, key, place);
    }
    if (isScalar(node)) return this.readScalar(node, path, offset);
    if (!isMap(node) && !isSeq(node)) return null;
    this.open.add(node);
    try {
      const inner = (name: string | number, value: unknown, at: number) =>
        this.read(value, [...path, name], at, childOf(place, name));
      if (isSeq(node)) return node.items.map((item, index) => inner(index, item, offset));
      const entries = [...this.entries(node, path, 0)];
      return Object.fromEntries(
        entries.map(([name, entry]) => [name, inner(name, entry.pair.value, entry.offset)]),
      );
    } finally {
      this.open.delete(node);
    }
  }

  private readScalar({ value, source }: Scalar, path: Path, offset: number): unknown {
    // YAML 1.2 reads 0640 as 640, where PostgreSQL and its users mean an octal number.
    if (typeof value === "number" && /^[-+]?0[0-9]/.test(source ?? "")) {
      this.report(offset, path, `a number cannot start with 0; write ${value}, or "${source}" in quotes`);
    }
    return value;
  }

  /** A map's entries by name, those that merge keys bring in last and only where the map has none itself. */
  private entries(map: YAMLMap, path: Path, depth: number): Map<string, Entry> {
    const entries = new Map<string, Entry>();
    const merges: Pair[] = [];
    for (const pair of map.items) {
      const offset = offsetOf(pair.key) ?? offsetOf(pair.value) ?? 0;
      if (this.isTooMuch(path.length + depth, offset)) break;
      const name = isScalar(pair.key) ? pair.key.value : undefined;
      if (typeof name === "symbol") {
        merges.push(pair);
      } else if (this.isUsableName(name, entries, offset, path)) {
        entries.set(name, { pair, offset });
      }
    }
    for (const [name, entry] of merges.flatMap((merge) => this.merged(merge, path, depth + 1))) {
      if (!entries.has(name)) entries.set(name, entry);
    }
    return entries;
  }

  private isUsableName(
    name: unknown,
    entries: Map<string, Entry>,
    offset: number,
    path: Path,
  ): name is string {
    if (typeof name !== "string") {
      const hint = name === undefined || name === null ? "" : `; in quotes, "${name}", it is text`;
      this.report(offset, path, `a key has to be text, got ${show(name)}${hint}`);
      return false;
    }
    if (name.length > maxKeyLength) {
      this.report(offset, path, `a key has at most ${maxKeyLength} characters, got ${name.length}`);
      return false;
    }
    if (name === "__proto__") {
      this.report(offset, [...path, name], "this key is not allowed");
      return false;
    }
    const first = entries.get(name);
    if (first) {
      const { line } = this.positionAt(first.offset);
      this.report(offset, [...path, name], `this key is there twice, first in line ${line}; remove one`);
    }
    return !first;
  }

  /** What `<<: *base` or `<<: [*base, *more]` brings into a map. */
  private merged(merge: Pair, path: Path, depth: number): [string, Entry][] {
    const sources = isSeq(merge.value) ? merge.value.items : [merge.value];
    return sources.flatMap((source) => {
      if (this.isTooMuch(path.length + depth, offsetOf(source) ?? 0)) return [];
      const node = isAlias(source) ? this.aliasTarget(source, path) : source;
      if (isMap(node)) {
        this.open.add(node);
        try {
          return [...this.entries(node, path, depth)];
        } finally {
          this.open.delete(node);
        }
      }
      if (node !== undefined) {
        const offset = offsetOf(source) ?? offsetOf(merge.key) ?? 0;
        this.report(
          offset,
          [...path, "<<"],
          `expected a map to merge, got ${show(isScalar(node) ? node.value : null)}`,
        );
      }
      return [];
    });
  }

  private aliasTarget(alias: Alias, path: Path): unknown {
    const target = this.aliasTargets.get(alias);
    if (target === undefined) {
      this.report(offsetOf(alias) ?? 0, path, `there is no anchor &${alias.source} before this alias`);
    }
    if (this.open.has(target)) {
      this.report(offsetOf(alias) ?? 0, path, `this alias is inside of what it stands for, &${alias.source}`);
      return undefined;
    }
    return target;
  }

  private isTooMuch(depth: number, offset: number): boolean {
    if (depth <= maxDepth && ++this.nodes <= maxNodes) return false;
    // The one report is enough: what overflows once does so thousands of times.
    if (!this.reported.has("too much")) {
      this.report(offset, [], "this is nested too deeply, or repeats aliases too often");
    }
    this.reported.add("too much");
    return true;
  }

  /** Once per place, however many aliases lead there. */
  private report(offset: number, path: Path, message: string): void {
    const identity = `${offset} ${message}`;
    if (this.reported.has(identity)) return;
    this.reported.add(identity);
    this.problems.push({ offset, path, message });
  }
}

function childOf(place: Place, name: PropertyKey): Place {
  const known = place.children.get(name);
  if (known) return known;
  const child: Place = { key: place.value, value: place.value, children: new Map() };
  place.children.set(name, child);
  return child;
}

/** An alias stands for the last node before it that has its anchor. */
function aliasTargetsOf(document: Document.Parsed): ReadonlyMap<unknown, unknown> {
  const anchors = new Map<string, unknown>();
  const targets = new Map<unknown, unknown>();
  visit(document, {
    Alias: (_key, alias) => {
      targets.set(alias, anchors.get(alias.source));
    },
    Value: (_key, node) => {
      if (node.anchor !== undefined) anchors.set(node.anchor, node);
    },
  });
  return targets;
}

/** Where a node starts in the text; undefined for a value that is left empty. */
function offsetOf(node: unknown): number | undefined {
  if (!isNode(node) || !node.range) return undefined;
  const [start, end] = node.range;
  return isScalar(node) && start === end ? undefined : start;
}
