export { missingOn, type Platform } from "./platforms";
export { secretKeys } from "./schema";
export {
  type AcmeSettings,
  type BackupDestination,
  ConfigurationError,
  checkedSettings,
  type KubernetesSettings,
  type Settings,
} from "./settings";
