# What a page's setup may call: an S3 server in the page's folder. run.py stops it when the page ends.
#
#   s3_server              starts SeaweedFS, with a bucket `models`, and names it in AWS's own variables
#   s3_put FOLDER NAME     copies the files of a folder to s3://models/NAME

s3_server() {
  tests/prepare.sh tests/services/install.sh
  tests/services/start.sh seaweedfs "$S3_PORT" s3-server >s3.env
  . ./s3.env
  export AWS_ENDPOINT_URL=$SHARDFUSE_TEST_S3_ENDPOINT AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=$SHARDFUSE_TEST_S3_KEY AWS_SECRET_ACCESS_KEY=$SHARDFUSE_TEST_S3_SECRET
}

s3_put() {
  local file
  for file in "$1"/*; do
    curl --silent --fail --aws-sigv4 "aws:amz:us-east-1:s3" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \
      -T "$file" "$AWS_ENDPOINT_URL/models/$2/${file##*/}"
  done
}
