// Package ownership keeps the managedFields of objects that have a Go type, without the
// library's detour over generic values and path sets.
//
// The one idea: who owns what changes only where an object changes, and where it changes is
// found by one walk over the Go values of old and new, side by side, along a Plan made once for each kind
// from its type and its schema. The walk gives a small sorted tree of marked paths; an entry is read into the
// same kind of tree, and one merge of the two writes the new entry. A create is the walk from
// the empty object.
//
// structured-merge-diff, with the manager chain around it, is what this must agree with byte for byte, and
// the tests compare them. So nothing unusual is handled here: an entry that is not written as
// the library writes it or speaks of another version or of fields the schema does not have, an
// item whose key needs escaping, more managers than are kept. Then Update says that it does not
// know, and the caller asks the library. Called by package patch alone.
package ownership
