/** Names of districts, families and properties, loaded once per session; the code itself stands in until (and unless) they are there. */

import { type Bilingual, language } from "../text/language.svelte";
import { requestDistricts, requestFamilies } from "./calls";
import type { District, Family, Property } from "./model";

class Names {
  districts: District[] = $state.raw([]);
  families: Family[] = $state.raw([]);

  async load(): Promise<void> {
    [this.districts, this.families] = await Promise.all([requestDistricts(), requestFamilies()]);
  }

  district(code: string): string {
    return language.of(this.districts.find((district) => district.code === code)?.name) || code;
  }

  /** What people call something; empty where the registry has no name for it, so that the identifier stood in. */
  given(name: Bilingual, id: string): string {
    const said = language.of(name);
    return said === id ? "" : said;
  }

  family(name: string): string {
    return language.of(this.families.find((family) => family.family === name)?.label) || name;
  }

  /** What devices of the family can report, in the catalogue's order. */
  properties(family: string): Property[] {
    const described = this.families.find((candidate) => candidate.family === family)?.properties ?? {};
    return Object.entries(described).map(([name, property]) => ({ name, ...property }));
  }

  property(family: string, name: string): Property | undefined {
    return this.properties(family).find((property) => property.name === name);
  }

  propertyLabel(family: string, name: string): string {
    return language.of(this.property(family, name)) || name;
  }
}

export const names = new Names();
