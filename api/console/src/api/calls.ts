/** The calls the console makes. Each gives the answer's body or throws a `Failure`; a 401 also ends the session. */

import { session } from "../shell/session.svelte";
import { Failure } from "./failure";
import type {
  ActionAnswer,
  ActionKind,
  AlarmDetail,
  AlarmPage,
  DeviceDetail,
  DevicePage,
  District,
  Family,
  Gateway,
  LatestOfDevice,
  QuarantineDetail,
  QuarantinePage,
  Readings,
  Session,
  Status,
} from "./model";

type Query = Record<string, string | number | boolean | null | undefined>;

async function call<T>(method: string, path: string, options: { query?: Query; body?: unknown; signal?: AbortSignal } = {}): Promise<T> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  const response = await fetch(`/v1${path}${text ? `?${text}` : ""}`, {
    method,
    headers: options.body === undefined ? { Accept: "application/json" } : { Accept: "application/json", "Content-Type": "application/json" },
    body: options.body === undefined ? undefined : JSON.stringify(options.body),
    signal: options.signal,
  });
  if (!response.ok) {
    const problem = (await response.json().catch(() => ({}))) as { detail?: string; title?: string };
    throw new Failure(response.status, problem.detail ?? problem.title ?? "");
  }
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function asked<T>(method: string, path: string, options: Parameters<typeof call>[2] = {}): Promise<T> {
  try {
    return await call<T>(method, path, options);
  } catch (error) {
    if (error instanceof Failure && error.status === 401) session.refused();
    throw error;
  }
}

export async function requestSession(): Promise<Session | null> {
  try {
    return await call<Session>("GET", "/session");
  } catch (error) {
    if (error instanceof Failure && error.status === 401) return null;
    throw error;
  }
}

export const openSession = (secret: { code: string } | { token: string }): Promise<Session> =>
  call<Session>("POST", "/session", { body: secret });
export const closeSession = (): Promise<void> => call<void>("DELETE", "/session");

export interface AlarmFilter {
  active?: boolean;
  state?: string;
  priority?: string;
  district?: string;
  family?: string;
  subject?: string;
  q?: string;
}

export const requestAlarms = (
  filter: AlarmFilter & { limit?: number; cursor?: string | null },
  signal?: AbortSignal,
): Promise<AlarmPage> => asked("GET", "/alarms", { query: { ...filter }, signal });

export const requestAlarm = (id: string, signal?: AbortSignal): Promise<AlarmDetail> =>
  asked("GET", `/alarms/${encodeURIComponent(id)}`, { signal });

export const requestAction = (
  alarm: { id: string; version: number },
  kind: ActionKind,
  args: { note?: string },
): Promise<ActionAnswer> =>
  asked("POST", `/alarms/${encodeURIComponent(alarm.id)}/actions`, { body: { kind, seen_version: alarm.version, arguments: args } });

export const requestAnswer = (action: string): Promise<ActionAnswer> => asked("GET", `/actions/${encodeURIComponent(action)}`);

export const requestDistricts = async (): Promise<District[]> => (await asked<{ items: District[] }>("GET", "/districts")).items;
export const requestFamilies = async (): Promise<Family[]> => (await asked<{ items: Family[] }>("GET", "/families")).items;

export interface DeviceFilter {
  district?: string;
  family?: string;
  gateway?: string;
  q?: string;
}

export const requestDevices = (
  filter: DeviceFilter & { limit: number; cursor?: string | null },
  signal?: AbortSignal,
): Promise<DevicePage> => asked("GET", "/devices", { query: { ...filter }, signal });

export const requestDevice = (id: string, signal?: AbortSignal): Promise<DeviceDetail> =>
  asked("GET", `/devices/${encodeURIComponent(id)}`, { signal });

export const requestLatest = async (devices: string[], signal?: AbortSignal): Promise<LatestOfDevice[]> =>
  (await asked<{ items: LatestOfDevice[] }>("GET", "/latest", { query: { devices: devices.join(",") }, signal })).items;

export const requestReadings = (
  device: string,
  query: { properties?: string; start: number; end: number; bucket?: number; function?: string },
  signal?: AbortSignal,
): Promise<Readings> => asked("GET", `/devices/${encodeURIComponent(device)}/readings`, { query, signal });

export const requestGateways = async (signal?: AbortSignal): Promise<Gateway[]> =>
  (await asked<{ items: Gateway[] }>("GET", "/gateways", { signal })).items;

export const requestStatus = (signal?: AbortSignal): Promise<Status> => asked("GET", "/status", { signal });

export const requestQuarantine = (
  query: { reason?: string; limit: number; cursor?: string | null },
  signal?: AbortSignal,
): Promise<QuarantinePage> => asked("GET", "/quarantine", { query, signal });

export const requestQuarantined = (item: { partition: number; sequence: number; element: number }): Promise<QuarantineDetail> =>
  asked("GET", `/quarantine/${item.partition}/${item.sequence}/${item.element}`);
