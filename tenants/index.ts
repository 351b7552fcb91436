export {
  type ParseOptions,
  parseTenants,
  positionOf,
  readTenants,
  type Tenant,
  type TenantRole,
} from "./parse";
export { TenantsFileError } from "./problems";
