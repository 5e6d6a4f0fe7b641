/** The nouns of the HTTP API as the console uses them, from the description that the API itself gives (schema.d.ts). */

import type { components, operations } from "./schema";

type Schemas = components["schemas"];

export const PRIORITIES = ["critical", "high", "medium", "low"] as const satisfies readonly Schemas["Alarm"]["priority"][];
export type Priority = (typeof PRIORITIES)[number];
export const STATES = ["UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV", "NORM"] as const satisfies readonly Schemas["State"][];
export type State = Schemas["State"];

/** Why an alarm was raised, in the values seen: window and duration in ms, samples as [ms, value]. */
export interface Evidence {
  property?: string;
  operator?: string | null;
  value?: number | string | null;
  unit?: string;
  setpoint?: number | string | null;
  window?: number | null;
  duration?: number | null;
  samples?: [number, number][];
}

type WithEvidence<Described> = Omit<Described, "evidence"> & { evidence: Evidence };

export type Alarm = WithEvidence<Schemas["Alarm"]>;
export type AlarmDetail = WithEvidence<Schemas["AlarmWithTransitions"]>;
export type AlarmPage = Omit<Schemas["AlarmPage"], "items"> & { items: Alarm[] };
export type PriorityCounts = Schemas["PriorityCounts"];
export type Transition = Schemas["Transition"];
export type ActionAnswer = Schemas["Action"];
export type ActionKind = "acknowledge" | "comment";

export type Session = Schemas["Session"];
export type District = Schemas["District"];
type Described = Omit<Schemas["PropertyDescription"], "range">;
export type Property = Described & { name: string };
export type Family = Omit<Schemas["FamilyDescription"], "properties"> & { properties: Record<string, Described> };
export type Gateway = Schemas["Gateway"];
export type DevicePage = Schemas["DevicePage"];
export type DeviceDetail = Schemas["SingleDevice"];
export type Latest = Schemas["Latest"];
export type Readings = Schemas["Readings"];
export type Status = Schemas["Status"];
export type Reason = NonNullable<NonNullable<operations["list_quarantine"]["parameters"]["query"]>["reason"]>;
export type QuarantineItem = Schemas["Verdict"];
export type QuarantinePage = Schemas["VerdictPage"];
