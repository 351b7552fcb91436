import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { createTwoFilesPatch } from "diff";
import { parseTenants, readTenants, type Tenant, TenantsFileError } from "../tenants";
import { type Edit, EditError, edited } from "./edit-tenants";
import { askPulumi, CommandError, projectFolder } from "./pulumi";

/** The stack's tenants.yaml. */
export class TenantsFile {
  private constructor(
    readonly path: string,
    private readonly versions: number[],
  ) {}

  /** The file that the stack's configuration names. */
  static ofStack(): TenantsFile {
    type Config = Record<string, { value: string; objectValue?: Record<string, string> }>;
    const config = askPulumi<Config>(["config", "--json"]);
    const images = config["pgs:images"]?.objectValue ?? {};
    return new TenantsFile(
      resolve(projectFolder, config["pgs:tenantsFile"]?.value ?? "tenants.yaml"),
      Object.keys(images).flatMap((key) => (key === "proxy" ? [] : [Number(key)])),
    );
  }

  /** @throws CommandError that lists what is wrong in the file */
  tenants(): Tenant[] {
    return explained(() => readTenants(this.path, { versions: this.versions }));
  }

  tenant(id: string): Tenant {
    const all = this.tenants();
    const found = all.find((tenant) => tenant.id === id);
    if (found) return found;
    throw new CommandError(
      `there is no tenant ${id}; there are ${all.map((one) => one.id).join(", ") || "none"}`,
      2,
    );
  }

  /**
   * Makes the edits, all or none: a file that would be wrong afterwards is left as it was.
   * @returns the change as a diff; empty when there is none
   */
  edit(edits: Edit[]): string {
    const fromHere = relative("", this.path);
    const name = fromHere.startsWith("..") ? this.path : fromHere;
    const before = readFileSync(this.path, "utf8");
    return explained(() => {
      const options = { file: name, folder: dirname(this.path), versions: this.versions };
      parseTenants(before, options);
      const after = edits.reduce(edited, before);
      parseTenants(after, options);
      if (after === before) return "";
      replaceFile(this.path, after);
      return createTwoFilesPatch(name, name, before, after, "", "", { context: 2 })
        .replace(/^=+\n/, "")
        .trimEnd();
    });
  }
}

function explained<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof TenantsFileError || error instanceof EditError)
      throw new CommandError(error.message, 2);
    throw error;
  }
}

/** In one step, so that whoever reads the file, or is killed here, finds the old text or the new. */
function replaceFile(path: string, text: string): void {
  const temporary = join(dirname(path), `.${process.pid}.tenants.yaml`);
  const file = openSync(temporary, "wx", statSync(path).mode);
  try {
    writeSync(file, text);
    fsyncSync(file);
    closeSync(file);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
