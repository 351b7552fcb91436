import type Docker from "dockerode";
import { beforeEach, expect, it, vi } from "vitest";
import { removeFile, replaceFile } from "../../../docker/file-changes";

/** What the container was asked, in order: files that were put there, and steps. */
let done: string[];
/** Those that are there. */
let folders: string[];
/** Names of files that cannot be changed. */
let broken: string[];

vi.mock("../../../docker/client", () => ({ isMissing: (error: Error) => error.message === "404" }));
vi.mock("../../../docker/files", () => ({
  putFiles: async (_container: unknown, folder: string, files: { name: string; content: string }[]) => {
    if (!folders.includes(folder)) throw new Error("404");
    done.push(`put ${files.map(({ name, content }) => `${folder}/${name}=${content}`).join(" ")}`);
  },
}));
vi.mock("../../../docker/exec", () => ({
  exec: async (_container: unknown, [command, ...args]: string[]) => {
    if (command === "mkdir") return folders.push(args[1] ?? "");
    const [, , , folder, ...steps] = args;
    await new Promise((resolve) => setTimeout(resolve, 5));
    done.push(`${folder}: ${steps.join(" ")}`);
    const failed = steps.find((step) => broken.includes(step));
    return failed ? { code: 1, stderr: `mv: ${failed}: no\n` } : { code: 0, stderr: "" };
  },
}));

const proxy = { id: "proxy" } as Docker.Container;

beforeEach(() => {
  done = [];
  folders = ["/d/.new"];
  broken = [];
});

it("a file is put beside the former and then takes its name", async () => {
  await replaceFile(proxy, "/d/a.yml", "new");
  expect(done).toEqual(["put /d/.new/a.yml.new=new", "/d: rename a.yml"]);
});

it("a folder for it is made where there is none", async () => {
  folders = [];
  await replaceFile(proxy, "/d/a.yml", "new");
  expect(folders).toEqual(["/d/.new"]);
  expect(done).toEqual(["put /d/.new/a.yml.new=new", "/d: rename a.yml"]);
});

it("changes that come while one is made are made together", async () => {
  await Promise.all([
    removeFile(proxy, "/d/a.yml"),
    replaceFile(proxy, "/d/b.yml", "b"),
    removeFile(proxy, "/d/c.yml"),
    removeFile(proxy, "/elsewhere/d.yml"),
    removeFile({ id: "other" } as Docker.Container, "/d/e.yml"),
  ]);
  expect(done.toSorted()).toEqual([
    "/d: remove a.yml",
    "/d: remove e.yml",
    "/d: rename b.yml remove c.yml",
    "/elsewhere: remove d.yml",
    "put /d/.new/b.yml.new=b",
  ]);
  await removeFile(proxy, "/d/f.yml");
  expect(done.at(-1)).toBe("/d: remove f.yml");
});

it("changes of one file stay in their order", async () => {
  await Promise.all([
    removeFile(proxy, "/d/first.yml"),
    replaceFile(proxy, "/d/a.yml", "1"),
    replaceFile(proxy, "/d/a.yml", "2"),
  ]);
  expect(done.slice(1)).toEqual([
    "put /d/.new/a.yml.new=1",
    "/d: rename a.yml",
    "put /d/.new/a.yml.new=2",
    "/d: rename a.yml",
  ]);
});

it("one that fails is an error of its own alone", async () => {
  broken = ["b.yml"];
  const answers = await Promise.allSettled(
    ["a", "b", "c"].map((name) => replaceFile(proxy, `/d/${name}.yml`, name)),
  );
  expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(String((answers[1] as PromiseRejectedResult).reason)).toBe(
    "Error: cannot change /d/b.yml: mv: b.yml: no",
  );
  expect(done.filter((one) => one.includes("rename")).at(-1)).toBe("/d: rename c.yml");
});
