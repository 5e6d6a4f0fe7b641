/** The nouns of the HTTP API as the console uses them. Times of entities are RFC 3339, times in columns are ms. */

import type { Bilingual } from "../text/language.svelte";

export const PRIORITIES = ["critical", "high", "medium", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];
export const STATES = ["UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV", "NORM"] as const;
export type State = (typeof STATES)[number];
export type Role = "viewer" | "operator" | "admin";

export interface Session {
  name: string;
  role: Role;
  districts: string[] | null;
  expires_at: string | null;
}

export interface Evidence {
  property?: string;
  operator?: string | null;
  value?: number | string | null;
  unit?: string;
  setpoint?: number | string | null;
  /** Window and duration in ms. */
  window?: number | null;
  duration?: number | null;
  samples?: [number, number][];
}

export interface Alarm {
  id: string;
  rule: string;
  title: Bilingual;
  subject: { kind: "device" | "zone" | "gateway"; id: string };
  family: string;
  district: string;
  zone: string;
  gateway: string;
  priority: Priority;
  state: State;
  version: number;
  raised_at: string;
  returned_at: string | null;
  acked_at: string | null;
  acked_by: string | null;
  assignee: string | null;
  shelved_until: string | null;
  shelve_reason: string | null;
  suppressed_by: string | null;
  evidence: Evidence;
  explanation: Bilingual;
  advice: Bilingual;
  location: { lon: number; lat: number; crs: string } | null;
  case_key: string | null;
  verdict: string | null;
  children: number;
  occurrences: number;
}

export interface Transition {
  seq: number;
  version: number;
  from_state: State;
  to_state: State;
  cause: string;
  at: string;
  recorded_at: string;
  actor: string | null;
  note: string | null;
}

export interface AlarmDetail extends Alarm {
  transitions: Transition[];
}

export type PriorityCounts = Record<Priority, number>;

export interface AlarmPage {
  items: Alarm[];
  next_cursor: string | null;
  counts: PriorityCounts;
  last_seq: number;
}

export interface District {
  code: string;
  name: Bilingual;
}

export interface Property {
  name: string;
  unit: string;
  zh: string;
  en: string;
  kind: "number" | "boolean" | "state";
  range: [number, number] | null;
  values: string[];
}

export interface Family {
  family: string;
  label: Bilingual;
  properties: Property[];
}

export interface Device {
  id: string;
  family: string;
  profile: string;
  district: string;
  zone: string;
  gateway: string;
  interval_ms: number;
  facts: Record<string, number>;
  name: Bilingual;
  location: { lon: number; lat: number; crs: string } | null;
}

export interface Latest {
  time: string;
  values: Record<string, number | string>;
  quality: string;
}

export interface LatestOfDevice extends Latest {
  device: string;
}

export interface DeviceDetail extends Device {
  latest: Latest | null;
  latest_error: boolean;
}

export interface DevicePage {
  items: Device[];
  next_cursor: string | null;
  total: number;
}

export interface Readings {
  times: number[];
  columns: Record<string, (number | string | null)[]>;
  units: Record<string, string>;
  bucket: number | null;
  truncated: boolean;
}

export interface Gateway {
  id: string;
  district: string;
  name: Bilingual;
  location: { lon: number; lat: number; crs: string } | null;
  state: "online" | "offline" | "unknown";
  state_since: string | null;
  devices: number;
}

export interface HealthReason {
  code: string;
  zh: string;
  en: string;
}

export interface Status {
  received: number;
  journalled: number;
  stored: number;
  late: number;
  duplicate: number;
  quarantined: number;
  quarantined_by_reason: Record<string, number>;
  control: number;
  pending: number;
  lost: number;
  store_lag_s: number | null;
  rules_lag_s: number | null;
  alarms_active: number;
  alarms_unacknowledged: number;
  devices: number;
  gateways_online: number;
  health: { state: "ok" | "degraded" | "down"; reasons: HealthReason[] };
}

export interface QuarantineItem {
  partition: number;
  sequence: number;
  element: number;
  reason: string;
  detail: string;
  source: string;
  topic: string;
  device: string | null;
  received_at: string;
  payload: string;
  payload_bytes: number;
}

export interface QuarantineDetail extends QuarantineItem {
  payload_base64: string;
}

export interface QuarantinePage {
  items: QuarantineItem[];
  next_cursor: string | null;
}

export type ActionKind = "acknowledge" | "comment";

export interface ActionAnswer {
  id: string;
  state: "pending" | "applied" | "refused";
  answer: string | null;
}
