export {
  type MissingFields,
  type ParseOptions,
  parseTenants,
  positionOf,
  readTenants,
  type Tenant,
} from "./parse";
export { TenantsFileError } from "./problems";
