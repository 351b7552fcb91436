export { type ParseOptions, parseTenants, positionOf, readTenants, type Tenant } from "./parse";
export { type Position, type Problem, TenantsFileError } from "./problems";
