package expression

import apicel "k8s.io/apiserver/pkg/cel"

type fields map[string]*apicel.DeclType

// structType declares an object; of its fields those named optional may be absent.
func structType(name string, all fields, optional ...string) *apicel.DeclType {
	out := make(map[string]*apicel.DeclField, len(all))
	for name, t := range all {
		out[name] = apicel.NewDeclField(name, t, true, nil, nil)
	}
	for _, name := range optional {
		out[name] = apicel.NewDeclField(name, all[name], false, nil, nil)
	}
	return apicel.NewObjectType("kubernetes."+name, out)
}

func list(of *apicel.DeclType) *apicel.DeclType  { return apicel.NewListType(of, -1) }
func table(of *apicel.DeclType) *apicel.DeclType { return apicel.NewMapType(apicel.StringType, of, -1) }

// requestType is what "request" is: an AdmissionRequest without uid and objects.
func requestType() *apicel.DeclType {
	text := apicel.StringType
	kind := structType("GroupVersionKind", fields{"group": text, "version": text, "kind": text})
	resource := structType("GroupVersionResource", fields{"group": text, "version": text, "resource": text})
	user := structType("UserInfo", fields{"username": text, "uid": text, "groups": list(text), "extra": table(list(text))},
		"username", "uid", "groups", "extra")
	return structType("AdmissionRequest", fields{
		"kind": kind, "resource": resource, "subResource": text,
		"requestKind": kind, "requestResource": resource, "requestSubResource": text,
		"name": text, "namespace": text, "operation": text, "userInfo": user, "dryRun": apicel.BoolType, "options": apicel.DynType,
	}, "subResource", "requestSubResource", "namespace", "dryRun", "options")
}

// namespaceType is what "namespaceObject" is: a Namespace without what nobody decides upon.
func namespaceType() *apicel.DeclType {
	text, number, at := apicel.StringType, apicel.IntType, apicel.TimestampType
	condition := structType("NamespaceCondition", fields{"status": text, "type": text, "lastTransitionTime": at, "message": text, "reason": text})
	return structType("Namespace", fields{
		"metadata": structType("NamespaceMetadata", fields{
			"name": text, "generateName": text, "namespace": text, "labels": table(text), "annotations": table(text), "UID": text,
			"creationTimestamp": at, "deletionGracePeriodSeconds": number, "deletionTimestamp": at,
			"generation": number, "resourceVersion": text, "finalizers": list(text),
		}),
		"spec":   structType("NamespaceSpec", fields{"finalizers": list(text)}),
		"status": structType("NamespaceStatus", fields{"conditions": list(condition), "phase": text}),
	})
}
