// Package patch turns what a client sent into the object to store: request bodies, the four
// kinds of patch, and the record of who manages which field.
//
// The one idea: everything here is a pure function of the live object and the bytes of the
// request. It knows no HTTP, no store and no admission; errors are the API's own
// *apierrors.StatusError with the code and text a client expects. Live objects are read-only and
// never changed. Called by the verbs of apiserver.
package patch
