/** A quarantined payload for a person's eyes: as text where it is text, always as a hex dump. */

export interface PayloadView {
  size: number;
  /** The payload as text, null where it is not UTF-8. JSON is laid out with indentation. */
  text: string | null;
  hex: string;
}

const ROW = 16;

/** `base64` is the payload as the API gives it. */
export function payloadView(base64: string): PayloadView {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return { size: bytes.length, text: asText(bytes), hex: hexDump(bytes) };
}

function asText(bytes: Uint8Array): string | null {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Rows of sixteen bytes: offset, hex, printable ASCII. */
export function hexDump(bytes: Uint8Array): string {
  const rows: string[] = [];
  for (let start = 0; start < bytes.length; start += ROW) {
    const row = [...bytes.subarray(start, start + ROW)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const ascii = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    rows.push(`${start.toString(16).padStart(4, "0")}  ${hex.padEnd(ROW * 3 - 1)}  ${ascii}`);
  }
  return rows.join("\n");
}
