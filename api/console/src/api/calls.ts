/** The calls the console makes. Each gives the answer's body or throws a `Failure`; a 401 also ends the session. */

import createClient from "openapi-fetch";
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
  QuarantineItem,
  QuarantinePage,
  Readings,
  Session,
  Status,
} from "./model";
import type { components, operations, paths } from "./schema";

/** Absent and empty parameters are left out, lists are comma-separated: the API takes both forms. */
function written(query: object): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") parts.set(name, String(value));
  }
  return parts.toString();
}

const client = createClient<paths>({ baseUrl: location.origin, querySerializer: written });

interface Answer<Body> {
  data?: Body;
  error?: components["schemas"]["ProblemDocument"];
  response: Response;
}

/** The body, or a `Failure` with the problem's own words. */
async function outcome<Body>(call: Promise<Answer<Body>>): Promise<Body> {
  const { data, error, response } = await call;
  if (response.ok) return data as Body;
  throw new Failure(response.status, error?.detail ?? error?.title ?? "");
}

/** The same for calls that need a session: when the server knows none any more, nor does the console. */
async function asked<Body>(call: Promise<Answer<Body>>): Promise<Body> {
  try {
    return await outcome(call);
  } catch (error) {
    if (error instanceof Failure && error.status === 401) session.refused();
    throw error;
  }
}

export async function requestSession(): Promise<Session | null> {
  try {
    return await outcome(client.GET("/v1/session"));
  } catch (error) {
    if (error instanceof Failure && error.status === 401) return null;
    throw error;
  }
}

export const openSession = (secret: { code: string } | { token: string }): Promise<Session> =>
  outcome(client.POST("/v1/session", { body: secret }));

export async function closeSession(): Promise<void> {
  await outcome(client.DELETE("/v1/session"));
}

type AlarmQuery = NonNullable<operations["list_alarms"]["parameters"]["query"]>;
export type AlarmFilter = Pick<AlarmQuery, "active" | "state" | "priority" | "district" | "family" | "subject" | "suppressed_by" | "q">;

export const requestAlarms = (query: AlarmQuery, signal?: AbortSignal): Promise<AlarmPage> =>
  asked(client.GET("/v1/alarms", { params: { query }, signal })) as Promise<AlarmPage>;

export const requestAlarm = (alarm: string, signal?: AbortSignal): Promise<AlarmDetail> =>
  asked(client.GET("/v1/alarms/{alarm}", { params: { path: { alarm } }, signal })) as Promise<AlarmDetail>;

export const requestAction = (alarm: { id: string; version: number }, kind: ActionKind, note: string): Promise<ActionAnswer> =>
  asked(
    client.POST("/v1/alarms/{alarm}/actions", {
      params: { path: { alarm: alarm.id } },
      body: { kind, seen_version: alarm.version, arguments: note ? { note } : {} },
    }),
  );

export const requestAnswer = (action: string): Promise<ActionAnswer> =>
  asked(client.GET("/v1/actions/{action}", { params: { path: { action } } }));

export const requestDistricts = async (): Promise<District[]> => (await asked(client.GET("/v1/districts"))).items;
export const requestFamilies = async (): Promise<Family[]> => (await asked(client.GET("/v1/families"))).items;

type DeviceQuery = NonNullable<operations["list_devices"]["parameters"]["query"]>;

export const requestDevices = (query: DeviceQuery, signal?: AbortSignal): Promise<DevicePage> =>
  asked(client.GET("/v1/devices", { params: { query }, signal }));

export const requestDevice = (device: string, signal?: AbortSignal): Promise<DeviceDetail> =>
  asked(client.GET("/v1/devices/{device}", { params: { path: { device } }, signal }));

type ReadingsQuery = NonNullable<operations["list_readings"]["parameters"]["query"]>;

export const requestReadings = (device: string, query: ReadingsQuery, signal?: AbortSignal): Promise<Readings> =>
  asked(client.GET("/v1/devices/{device}/readings", { params: { path: { device }, query }, signal }));

export const requestGateways = async (signal?: AbortSignal): Promise<Gateway[]> =>
  (await asked(client.GET("/v1/gateways", { signal }))).items;

export const requestStatus = (signal?: AbortSignal): Promise<Status> => asked(client.GET("/v1/status", { signal }));

type QuarantineQuery = NonNullable<operations["list_quarantine"]["parameters"]["query"]>;

export const requestQuarantine = (query: QuarantineQuery, signal?: AbortSignal): Promise<QuarantinePage> =>
  asked(client.GET("/v1/quarantine", { params: { query }, signal }));

export const requestQuarantined = (position: { partition: number; sequence: number; element: number }): Promise<QuarantineItem> =>
  asked(client.GET("/v1/quarantine/{partition}/{sequence}/{element}", { params: { path: position } }));
