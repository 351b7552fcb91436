import * as pulumi from "@pulumi/pulumi";

/** Whether a value goes over the wire as a secret. */
export function isSecret(value: unknown): boolean {
  return (
    (value as Record<string, unknown>)?.[pulumi.runtime.specialSigKey] === pulumi.runtime.specialSecretSig
  );
}

/** The content of a value on the wire, secret or not. */
export function plain<T>(value: unknown): T {
  return (isSecret(value) ? (value as { value: T }).value : value) as T;
}
