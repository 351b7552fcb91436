export { secretKeys } from "./schema";
export {
  type AcmeSettings,
  type BackupDestination,
  ConfigurationError,
  checkedSettings,
  type Settings,
} from "./settings";
