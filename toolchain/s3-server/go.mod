module pgs/toolchain/s3-server

go 1.25

tool github.com/johannesboyne/gofakes3/cmd/gofakes3

require github.com/johannesboyne/gofakes3 v0.0.0-20250603205740-ed9094be7668 // indirect

require (
	github.com/aws/aws-sdk-go v1.44.256 // indirect
	github.com/ryszard/goskiplist v0.0.0-20150312221310-2dfbae5fcf46 // indirect
	github.com/spf13/afero v1.2.1 // indirect
	go.etcd.io/bbolt v1.3.5 // indirect
	go.shabbyrobe.org/gocovmerge v0.0.0-20230507111327-fa4f82cfbf4d // indirect
	golang.org/x/sys v0.7.0 // indirect
	golang.org/x/text v0.9.0 // indirect
	golang.org/x/tools v0.8.0 // indirect
	gopkg.in/mgo.v2 v2.0.0-20180705113604-9856a29383ce // indirect
)
