import { randomBytes } from "node:crypto";
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
import { dirname, join, relative } from "node:path";
import { createTwoFilesPatch } from "diff";
import { parseDocument } from "yaml";
import { missingOn } from "../../config";
import { type ParseOptions, parseTenants, readTenants, type Tenant, TenantsFileError } from "../../tenants";
import { type Edit, EditError, edited, unknownTenant } from "./edit-tenants";
import { CommandError } from "./pulumi";
import type { StackConfig } from "./stack";

/** A checked change of tenants.yaml that is not written yet. */
export interface Change {
  /** Empty when the file does not change. */
  diff: string;
  /** The tenants after it. */
  tenants: Tenant[];
  /** Replaces the file. @throws CommandError when somebody changed it meanwhile */
  write(): void;
  /** Puts the previous text back, unless the file was changed since. */
  takeBack(): void;
}

/** The stack's tenants.yaml. */
export class TenantsFile {
  readonly path: string;
  private readonly rules: Pick<ParseOptions, "images" | "missing">;

  constructor(config: Pick<StackConfig, "tenantsFile" | "images" | "platform">) {
    this.path = config.tenantsFile;
    this.rules = { images: Object.keys(config.images), missing: missingOn(config.platform) };
  }

  /** @throws CommandError that lists what is wrong in the file */
  tenants(): Tenant[] {
    return explained(() => readTenants(this.path, this.rules));
  }

  tenant(id: string): Tenant {
    const all = this.tenants();
    const found = all.find((tenant) => tenant.id === id);
    if (found) return found;
    const ids = all.map((one) => one.id);
    throw new CommandError(unknownTenant(id, ids), 2);
  }

  /** Whether the tenant's entry itself has the field: a default is no such field. */
  sets(id: string, field: string): boolean {
    return parseDocument(this.read()).hasIn(["tenants", id, field]);
  }

  /** All of the edits or none. @throws CommandError when the file is wrong, or would be afterwards */
  plan(edits: Edit[]): Change {
    const fromHere = relative("", this.path);
    const name = fromHere.startsWith("..") ? this.path : fromHere;
    const before = this.read();
    return explained(() => {
      const options = { file: name, folder: dirname(this.path), ...this.rules };
      parseTenants(before, options);
      const after = edits.reduce(edited, before);
      const tenants = parseTenants(after, options);
      const diff = createTwoFilesPatch(name, name, before, after, "", "", { context: 2 });
      return {
        diff: after === before ? "" : diff.slice(diff.indexOf("--- ")).trimEnd(),
        tenants,
        write: () => {
          if (after === before) return;
          if (this.read() !== before) throw new CommandError(`${name} was changed meanwhile: run this again`);
          replaceFile(this.path, after);
        },
        takeBack: () => {
          if (after !== before && this.read() === after) replaceFile(this.path, before);
        },
      };
    });
  }

  private read(): string {
    this.tenants();
    return readFileSync(this.path, "utf8");
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

/**
 * In one step, so that whoever reads the file, or is killed here, finds the old text or the new. What a killed
 * run leaves, git ignores (.gitignore).
 */
function replaceFile(path: string, text: string): void {
  const temporary = join(dirname(path), `.${randomBytes(4).toString("hex")}.tenants.yaml`);
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
