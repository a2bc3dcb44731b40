package cri

import "testing"

func TestOperationNames(t *testing.T) {
	for method, want := range map[string]string{
		"/runtime.v1.RuntimeService/RunPodSandbox":      "run_podsandbox",
		"/runtime.v1.RuntimeService/ListPodSandbox":     "list_podsandbox",
		"/runtime.v1.RuntimeService/PodSandboxStatus":   "podsandbox_status",
		"/runtime.v1.RuntimeService/CreateContainer":    "create_container",
		"/runtime.v1.RuntimeService/Version":            "version",
		"/runtime.v1.RuntimeService/ExecSync":           "exec_sync",
		"/runtime.v1.ImageService/PullImage":            "pull_image",
		"/runtime.v1.ImageService/ImageFsInfo":          "image_fs_info",
		"/runtime.v1.RuntimeService/ListContainerStats": "list_container_stats",
	} {
		if got := operationName(method); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
}
