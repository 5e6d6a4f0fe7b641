/** What an address means: which page, and whether it may be gone to after signing in. */

export type Page =
  | { name: "login" }
  | { name: "alarms" }
  | { name: "alarm"; id: string }
  | { name: "devices" }
  | { name: "device"; id: string }
  | { name: "health" }
  | { name: "missing" };

export function pageOf(path: string): Page {
  const [first, second, ...more] = path.split("/").filter(Boolean).map(decoded);
  if (more.length) return { name: "missing" };
  if (first === undefined) return { name: "alarms" };
  if (first === "login" && !second) return { name: "login" };
  if (first === "alarms") return second ? { name: "alarm", id: second } : { name: "alarms" };
  if (first === "devices") return second ? { name: "device", id: second } : { name: "devices" };
  if (first === "health" && !second) return { name: "health" };
  return { name: "missing" };
}

/** Where to go after signing in: the address that was asked for if it is a page of ours, the alarms otherwise. */
export function destination(asked: string | null): string {
  const ours = asked !== null && /^\/(?![/\\])/.test(asked) && !asked.startsWith("/login");
  return ours ? asked : "/";
}

/** A part of a path as text; one that is not well encoded stays as it is, and names nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
