/** What follows the tenant's hostname in the one that leads to its replicas. */
export const readOnlySuffix = "-ro";
