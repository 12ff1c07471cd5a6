"""What the bytes of an image file say before any pixel is decoded, one format a file.

Every module offers two functions of bytes:

- `read_header(data)`: the sizes and the orientation that the file states;
- `essential(data)`: a file with the same pixels that holds no more than what makes them. Only
this is handed to a decoder,
  so colour profiles, comments, further frames and pages, thumbnails and private tags cost nothing
  and harm nobody.
"""
