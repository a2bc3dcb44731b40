// The clients kit is a module of its own: what other clients need never reaches proa's.
module github.com/proa-dev/proa/test/clients

go 1.26.6
