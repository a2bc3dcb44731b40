// Package access decides who may do what: it turns credentials into a user
// (authentication) and a user's request into a decision with a reason (authorization:
// node, then RBAC).
//
// The one idea: decisions are pure functions of cached objects, found again without
// evaluation as long as none of these objects changed (api.Reader.Revision).
//
// Used by apiserver for each request, by kubelet's API through token and access reviews.
// Admission, which looks at objects, is the package access/admission.
package access

import (
	"context"
	"net/http"

	"github.com/proa-dev/proa/apis/api"
)

// Authenticator finds out who sends a request.
type Authenticator interface {
	// Authenticate returns nil, nil when the request carries no credentials it knows, and an
	// error when it carries some that are not valid. A bearer token that is accepted is
	// removed from the request's headers.
	Authenticate(r *http.Request) (*api.User, error)
}

// Attributes say what a request wants to do, in the terms of the authorization API.
type Attributes struct {
	User *api.User
	Verb string // get, list, watch, create, update, patch, delete, deletecollection, ...; in lower case the HTTP method for paths

	// Of a resource request.
	Resource    bool
	Group       string
	Version     string
	Plural      string // "pods"
	Subresource string
	Namespace   string
	Name        string
	// FieldSelector and LabelSelector as in the query of list, watch and deletecollection
	// (KEP-4601: the node authorizer needs spec.nodeName=...).
	FieldSelector, LabelSelector string

	// Of any other request.
	Path string
}

// Decision is an authorizer's answer.
type Decision int

// The decisions.
const (
	NoOpinion Decision = iota // the next authorizer decides; at the end of the chain: refused
	Allow
	Deny
)

// Authorizer decides on requests; safe for concurrent use.
type Authorizer interface {
	// Authorize does not block on other machines, but for a webhook that was configured, within its
	// timeout. reason is for people, and for audit.
	Authorize(ctx context.Context, a *Attributes) (d Decision, reason string)
}
