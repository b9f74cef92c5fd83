"""Assignment 1: which of your functions is which part. Only for answers in files of your own.

Take away the # before the parts that you have, and put your names in. Hand this file in together with the files that it
imports from, as a folder or a zip. A notebook needs none of this.
"""

# from my_code import my_function as per_frame
# from my_code import my_function as inflate
# from my_code import my_function as temporal_conv
# from my_code import my_function as add_embedding
# from my_code import my_function as TemporalResidual
# from my_code import my_function as load_picture_weights
