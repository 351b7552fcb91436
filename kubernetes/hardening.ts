/** Of a pod that does one thing and ends: nothing of the cluster is handed to it. */
export const plainPod = {
  restartPolicy: "Never",
  automountServiceAccountToken: false,
  enableServiceLinks: false,
};

/** The user postgres of CloudNativePG's images, as restricted pod security asks for. */
export const plainUser = {
  runAsNonRoot: true,
  runAsUser: 26,
  seccompProfile: { type: "RuntimeDefault" },
};

/** What every container has: no capability, no way to more rights, a root that cannot be written to. */
export const hardened = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};
