// What an OpenAPI document says of types: in words, as a tree, and as an example.

import { element } from "./dom.js";

const DEEPEST = 6; // levels of an example: a schema may hold itself

// Follows a reference inside the document.
export function resolved(schema, api) {
  if (!schema?.$ref) return schema ?? {};
  const target = schema.$ref
    .replace(/^#\//, "")
    .split("/")
    .reduce((part, name) => part?.[name], api);
  return resolved(target, api);
}

const choices = (schema) => schema.anyOf ?? schema.oneOf;

// Of "a number or null" the number: a parameter that is null is one that is left out.
export function withoutNull(given, api) {
  const schema = resolved(given, api);
  const [only, ...others] = (choices(schema) ?? [])
    .map((each) => resolved(each, api))
    .filter((each) => each.type !== "null");
  return only && others.length === 0 ? only : schema;
}

// A type in a few words: "list of text", "number or null".
export function typeWords(given, api) {
  const schema = resolved(given, api);
  if (choices(schema))
    return choices(schema)
      .map((each) => typeWords(each, api))
      .join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.prefixItems)
    return `[${schema.prefixItems.map((each) => typeWords(each, api)).join(", ")}]`;
  if (schema.type === "array")
    return schema.items ? `list of ${typeWords(schema.items, api)}` : "list";
  if (schema.type === "string") {
    if (schema.format === "binary") return "file";
    return schema.format === "byte" ? "base64" : "string";
  }
  if (schema.type === "object" || schema.properties) {
    const values = schema.additionalProperties;
    if (values && values !== true) return `object of name: ${typeWords(values, api)}`;
    return given?.$ref ? given.$ref.split("/").pop() : "object";
  }
  return schema.type ?? "any";
}

// What a value must keep to beside its type: "1 or more; 5 by default".
export function limitWords(schema) {
  const words = [];
  if (schema.minimum !== undefined) words.push(`${schema.minimum} or more`);
  if (schema.exclusiveMinimum !== undefined) words.push(`above ${schema.exclusiveMinimum}`);
  if (schema.maximum !== undefined) words.push(`${schema.maximum} or less`);
  if (schema.minItems !== undefined && schema.items) words.push(`at least ${schema.minItems}`);
  if (schema.default !== undefined && schema.default !== null) {
    words.push(`${JSON.stringify(schema.default)} by default`);
  }
  return words.join("; ");
}

// The object inside a type, if there is one: of a list its items, of a choice the first.
function innerObject(given, api) {
  const schema = resolved(given, api);
  if (schema.properties) return schema;
  if (schema.items) return innerObject(schema.items, api);
  for (const each of choices(schema) ?? []) {
    const found = innerObject(each, api);
    if (found) return found;
  }
  const values = schema.additionalProperties;
  return values && values !== true ? innerObject(values, api) : null;
}

// The fields of an object as a nested list; null where a type has no fields.
export function fieldTree(given, api, depth = 0) {
  const schema = innerObject(given, api);
  if (!schema || depth > DEEPEST) return null;
  const required = new Set(schema.required ?? []);
  return element(
    "ul",
    { class: "fields" },
    ...Object.entries(schema.properties).map(([name, field]) => {
      const facts = [typeWords(field, api)];
      if (!required.has(name)) facts.push("optional");
      const limits = limitWords(resolved(field, api));
      if (limits) facts.push(limits);
      const text = field.description ?? "";
      return element(
        "li",
        {},
        element("code", {}, name),
        " ",
        element("span", { class: "facts" }, facts.join(" · ")),
        text ? element("p", { class: "hint" }, text) : null,
        fieldTree(field, api, depth + 1),
      );
    }),
  );
}

// A value of a type, from its examples where it has some.
export function exampleOf(given, api, depth = 0) {
  const schema = resolved(given, api);
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length > 0) return schema.examples[0];
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.default !== undefined && schema.default !== null) return schema.default;
  if (depth > DEEPEST) return null;
  const next = (each) => exampleOf(each, api, depth + 1);
  if (choices(schema)) {
    return next(choices(schema).find((each) => resolved(each, api).type !== "null") ?? {});
  }
  if (schema.prefixItems) return schema.prefixItems.map(next);
  if (schema.type === "array") return schema.items ? [next(schema.items)] : [];
  if (schema.properties) {
    const entries = Object.entries(schema.properties).map(([name, field]) => [name, next(field)]);
    return Object.fromEntries(entries);
  }
  if (schema.type === "object") {
    const values = schema.additionalProperties;
    return values && values !== true ? { name: next(values) } : {};
  }
  return { string: "text", integer: 1, number: 0.5, boolean: true }[schema.type] ?? null;
}
