// Package cluster wires the rooms of the house together: which parts run in this
// process, in which order they start and stop, and where a cluster keeps its things on
// a machine.
//
// The one idea: a process is an ordered list of parts with one lifecycle (see Group);
// server.go and agent.go are those lists, top down, each step with its reason.
//
// Used by cmd/proa and by tests.
package cluster
