package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// exitTopic is what a shim says the moment a container's first process has ended.
const exitTopic = `topic=="/tasks/exit",namespace=="k8s.io"`

// Exits tells of each container whose process has ended, well before the runtime has cleaned up
// after it and says so over CRI. It blocks until ctx ends or the stream breaks.
func Exits(ctx context.Context, conn grpc.ClientConnInterface, tell func(container string, code int32, at time.Time)) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io")
	stream, err := eventsapi.NewEventsClient(conn).Subscribe(ctx, &eventsapi.SubscribeRequest{Filters: []string{exitTopic}}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("listen for ended processes: %w", err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("listen for ended processes: %w", err)
		}
		var exit events.TaskExit
		if err := proto.Unmarshal(e.GetEvent().GetValue(), &exit); err != nil {
			return fmt.Errorf("read the end of a process: %w", err)
		}
		if exit.ID == exit.ContainerID { // else a process that was executed beside the first
			tell(exit.ContainerID, int32(exit.ExitStatus), exit.ExitedAt.AsTime())
		}
	}
}
